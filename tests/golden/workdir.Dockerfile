FROM debian:12
WORKDIR /a
WORKDIR b
WORKDIR ../c/./d/
USER app
WORKDIR /home/app//x
RUN pwd
