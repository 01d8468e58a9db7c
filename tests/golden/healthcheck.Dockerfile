FROM debian
HEALTHCHECK NONE
HEALTHCHECK none
HEALTHCHECK CMD curl -f http://localhost/ || exit 1
HEALTHCHECK --interval=1m30s --timeout=3.5s --start-period=500ms --start-interval=1h --retries=5 cmd ["check", "-v"]
HEALTHCHECK --interval=0s --retries=0 CMD --not-a-flag
