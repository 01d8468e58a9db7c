# plan: --build-arg VERSION=2 --build-arg EMPTY= --build-arg NOBODY=knows
ARG VERSION=1
FROM debian:12
ARG VERSION
ARG EMPTY=default
ARG UNSET
RUN echo $VERSION "$EMPTY" $UNSET
