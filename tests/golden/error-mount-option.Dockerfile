FROM debian
RUN --mount=type=cache,targte=/x true
