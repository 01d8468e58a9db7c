FROM debian:12
RUN --security=insecur true
