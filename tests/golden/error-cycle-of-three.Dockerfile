FROM scratch AS a
COPY --from=c /x /x
FROM scratch AS b
COPY --from=a /x /x
FROM scratch AS c
COPY --from=b /x /x
