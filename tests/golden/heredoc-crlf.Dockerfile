FROM debian:12
RUN <<EOF
echo one

echo two
EOF
COPY <<EOF /x
a
EOF
