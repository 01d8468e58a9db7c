FROM debian
RUN --mount=type=cache,target=/x,mode=0788 true
