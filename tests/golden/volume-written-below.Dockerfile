FROM debian:12
VOLUME /data ["/json"]
VOLUME ["/data", "/more"]
RUN touch /data/written
COPY x /data/
