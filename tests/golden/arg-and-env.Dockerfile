# plan: --build-arg LATER=given
FROM debian:12
ARG EARLIER=arg
ENV EARLIER=env LATER=env
ARG LATER
RUN echo $EARLIER is env, $LATER is given
LABEL earlier=$EARLIER later=$LATER
