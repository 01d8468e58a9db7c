FROM debian:12
ARG DIR=/cache ID=one
RUN --mount=type=cache,target=$DIR,id=${ID}-x true
