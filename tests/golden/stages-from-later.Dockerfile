FROM scratch
COPY --from=later /x /x
FROM debian:12 AS later
RUN make /x
FROM scratch
COPY --from=0 /x /y
