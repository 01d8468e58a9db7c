chmod 0711 dir dir/deep; chmod 0600 dir/one
