chmod 0750 x; chmod 2711 x/y
touch -d @1100000001 x/y; touch -d @1100000002 x
