chmod 0640 a; chmod 0744 dir/run; chmod 0644 dir/not; chmod 0700 dir/sub
