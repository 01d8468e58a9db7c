FROM debian AS a
FROM a AS b.2_x-y
FROM b.2_x-y
COPY --from=a /x /y
COPY --from=later /x /y
FROM scratch AS later
FROM debian AS a
