FROM debian:12
ARG T=cahce
RUN --mount=type=$T,target=/x true
