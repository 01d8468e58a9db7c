FROM debian
ARG X
COPY --from=$X a b
