FROM debian
RUN --mount=type=cahce,target=/x true
