truncate -s 3M hole; printf x | dd of=data bs=1 seek=2000000 2>/dev/null; truncate -s 4M data; chmod 0604 data
