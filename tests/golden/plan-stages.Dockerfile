# Stages: by name, by number, from each other; the target needs not all of them.
ARG BASE=debian:bookworm
FROM ${BASE} AS build
ARG VERSION=1.2 FULL=v${VERSION}
ENV CC=gcc OLD=$CC
WORKDIR /src
COPY --chown=app:app --chmod=u=rwX,go=rX src/ lib/*.c ./
RUN make VERSION=$VERSION
FROM build AS unused
RUN false
FROM alpine AS tools
RUN ["apk", "add", "zip"]
FROM scratch
COPY --from=build /src/app /app
COPY --from=2 /usr/bin/zip /zip
COPY --from=busybox:1.36 /bin/sh /bin/sh
ENTRYPOINT ["/app"]
