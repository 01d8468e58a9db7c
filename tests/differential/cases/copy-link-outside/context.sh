ln -s ../Dockerfile escape
