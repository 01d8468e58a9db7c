FROM debian:12
USER app
COPY as-root /a/
COPY --chown=11 both-11 /b/
COPY --chown=app:users named /c/deep/
ARG ID=7
COPY --chown=$ID:$ID argument /d/
