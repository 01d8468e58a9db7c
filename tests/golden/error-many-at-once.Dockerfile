FROM debian:12
COPPY a b
RUN --mont=type=cache,target=/x true
EXPOSE 99999
USER
ENV A=1 B
STOPSIGNAL SIGTREM
FROM debian:12 AS 1
