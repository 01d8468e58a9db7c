FROM debian
RUN --mount=type=bind,target=/x,size=1g true
