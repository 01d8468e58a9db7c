# Everything that changes the config.
FROM base
MAINTAINER somebody
USER app:users
WORKDIR work
WORKDIR ../other
ENV A=1 B=$A
ENV LEGACY a value
ARG A=argument
LABEL one=1 "two words"="$B x"
EXPOSE 80 8000-8002/UDP
VOLUME /data ["/x"]
STOPSIGNAL SIGQUIT
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
HEALTHCHECK --interval=10s --retries=3 CMD curl -f localhost
CMD echo $A
ENTRYPOINT exec start
RUN set
