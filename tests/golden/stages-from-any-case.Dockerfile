FROM debian:12 AS Build
RUN make
FROM BUILD AS next
COPY --from=bUiLd /app /app
COPY --from=0 /lib /lib
