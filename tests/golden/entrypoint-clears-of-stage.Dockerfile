FROM debian:12 AS base
CMD ["--of", "base"]
FROM base
ENTRYPOINT ["/app"]
