mkfifo fifo; mknod null c 1 3; mknod block b 7 1; chmod 0604 fifo
