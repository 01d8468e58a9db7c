FROM debian
RUN --chown=1 true
