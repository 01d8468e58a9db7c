FROM alpine:3 AS debian
FROM debian
RUN true
