FROM debian:12
ARG =1
