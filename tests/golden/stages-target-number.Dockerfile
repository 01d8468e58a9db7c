# plan: --target=1
FROM debian:12 AS build
FROM build
RUN make check
FROM scratch
