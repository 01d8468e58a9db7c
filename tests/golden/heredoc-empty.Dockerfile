FROM debian:12
COPY <<EOF /etc/empty
EOF
RUN <<EOF
EOF
