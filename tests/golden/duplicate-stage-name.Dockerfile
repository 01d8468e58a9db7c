FROM debian AS x
FROM alpine AS x
FROM scratch
COPY --from=X /a /b
