FROM debian:12
RUN --security=sandbox true
RUN --security=insecure mount
