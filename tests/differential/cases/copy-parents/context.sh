chmod 0750 x; chmod 2711 x/y
touch -d 2001-02-03 x/y; touch -d 2002-03-04 x
