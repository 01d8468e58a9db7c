FROM debian:12
RUN true
RUN --network=default true
RUN --network=none true
RUN --network=host true
