FROM debian:12
RUN --mount=type=tmpfs,target=/scratch,size=64m true
RUN --mount=type=tmpfs,target=/tmp --network=none true
