FROM debian:12 AS parent
ARG VERSION=1
ENV KEPT=yes
SHELL ["/bin/bash", "-c"]
USER app:users
WORKDIR /work
LABEL a=b
STOPSIGNAL SIGINT
FROM parent AS child
RUN echo $VERSION $KEPT
WORKDIR below
COPY x .
