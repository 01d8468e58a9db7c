FROM debian:12
COPY <<../../etc/passwd /x/
root
../../etc/passwd
