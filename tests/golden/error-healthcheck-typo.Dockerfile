FROM debian:12
HEALTHCHECK --intervall=5s CMD true
