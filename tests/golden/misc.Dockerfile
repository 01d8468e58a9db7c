FROM debian
ARG PORT="90 91" A=1000 B=1002 GROUP=users c=d SIG=9
MAINTAINER Ann Author <ann@example.org>
EXPOSE 80 443/TCP 53/udp 8000-8010 $PORT ${A}-${B}/udp
VOLUME /data "/log" /b
VOLUME ["/a b", "/c"]
USER app:$GROUP
USER "quoted user"
WORKDIR /a b/$c
WORKDIR relative
STOPSIGNAL SIGRTMIN+3
STOPSIGNAL 9
STOPSIGNAL $SIG
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
CMD echo $HOME
CMD []
ENTRYPOINT exec top -b
ENTRYPOINT []
CMD ["only", "args"]
