FROM debian:12 AS build
RUN make
FROM debian:12 AS unused
RUN false
FROM scratch
COPY --from=build /app /app
