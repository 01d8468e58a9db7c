FROM debian
HEALTHCHECK --retries=3
