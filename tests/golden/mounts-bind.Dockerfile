FROM debian:12 AS tools
FROM debian:12
RUN --mount=target=. ls
RUN --mount=type=bind,source=src,target=/src make -C /src
RUN --mount=type=bind,from=tools,source=/opt,target=/opt,rw /opt/run
RUN --mount=type=bind,from=busybox:1,dst=/busybox,readonly true
