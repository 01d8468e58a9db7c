FROM debian:12
CMD ["--own"]
ENTRYPOINT ["/app"]
