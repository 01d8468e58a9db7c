FROM debian
HEALTHCHECK --interval=30 CMD true
