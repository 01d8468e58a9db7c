FROM debian:12 AS seed
FROM debian:12
USER 1000
RUN --mount=type=cache,target=/root/.cache pip install x==1
RUN --mount=type=cache,id=apt,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=private true
RUN --mount=type=cache,target=/c,from=seed,source=/c,uid=1,gid=2,mode=0700,ro true
