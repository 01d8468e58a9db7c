FROM debian AS a
COPY --from=b /x /y
FROM a AS c
FROM debian AS b
RUN --mount=from=c,target=/c true
