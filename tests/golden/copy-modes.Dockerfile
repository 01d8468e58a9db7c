FROM debian:12
COPY --chmod=755 a /
COPY --chmod=4755 setuid /
COPY --chmod=u=rwX,go=rX dir/ /dir/
ARG M=0600
COPY --chmod=$M b /
ADD --chmod=+x c /
