chmod 0700 dir/x; chmod 0777 dir/sub
