ARG GLOBAL=global OTHER=other
FROM debian:12 AS undeclared
RUN echo "$GLOBAL"
FROM debian:12 AS declared
ARG GLOBAL
ARG OTHER=own
RUN echo $GLOBAL $OTHER
FROM scratch
COPY --from=undeclared /a /a
COPY --from=declared /b /b
