chmod 4755 dir/x
