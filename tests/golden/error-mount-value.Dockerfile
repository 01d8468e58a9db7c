FROM debian
RUN --mount=type=cache,target true
