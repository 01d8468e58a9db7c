FROM debian:12
WORKDIR sub
COPY x .
RUN pwd
