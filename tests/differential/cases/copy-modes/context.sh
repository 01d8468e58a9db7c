for mode in 0000 0400 0644 0755 0777 1644 2755 4755 6711; do touch f$mode; chmod $mode f$mode; done
for mode in 0700 0755 1777 2775; do mkdir d$mode; chmod $mode d$mode; done
echo x >suid; chmod 4711 suid
chown 1000:1000 f0644 d0755
