FROM debian:12
ENTRYPOINT ["/app"]
