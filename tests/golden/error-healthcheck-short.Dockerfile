FROM debian
HEALTHCHECK --timeout=50ns CMD true
