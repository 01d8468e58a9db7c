FROM debian:12
COPY --link a /link/
COPY --link=true --chown=1 b /link/
ADD --link c /link/
COPY --link=false d /link/
