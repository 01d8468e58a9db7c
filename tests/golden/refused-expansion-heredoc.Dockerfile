FROM debian:12
COPY <<EOF /x
one
  two ${
EOF
