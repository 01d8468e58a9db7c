FROM debian:12
RUN first
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN second | third
CMD fourth
ENTRYPOINT fifth
HEALTHCHECK CMD sixth
