FROM debian
HEALTHCHECK curl localhost
