FROM debian:12
ARG D=/file
COPY a b $D
