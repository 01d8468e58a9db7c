FROM debian
CMD --help
