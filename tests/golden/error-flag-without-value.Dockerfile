FROM debian
RUN --mount type=cache,target=/x true
