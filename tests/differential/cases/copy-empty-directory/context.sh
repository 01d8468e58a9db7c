mkdir -p dir/empty/below empty; chmod 0700 dir/empty
