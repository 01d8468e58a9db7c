FROM debian:12
ARG NAME=world
COPY <<EOF /etc/one
Hello $NAME, "$NAME", '$NAME', \$NAME \
joined ${NOTHING:-default}
EOF
COPY <<"EOF" /etc/two
Hello $NAME \
not joined
EOF
COPY <<-EOF /etc/three
		tabs $NAME
	EOF
