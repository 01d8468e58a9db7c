# plan: --target=TEST
FROM debian:12 AS build
RUN make
FROM build AS test
RUN make check
FROM scratch
COPY --from=build /app /app
