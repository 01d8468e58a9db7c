FROM debian:12
WORKDIR /a"b
