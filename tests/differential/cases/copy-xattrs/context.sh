cp /bin/busybox program; setcap cap_net_bind_service+ep program
echo x >user; mkdir dir
python3 -c 'import os; [os.setxattr(p, "user.note", b"binary\0\377") for p in ("user", "dir")]'
