FROM debian:12
ARG TOKEN
ENV A="${TOKEN:?give --build-arg TOKEN=…}"
