FROM --platform=linux/amd64/v2/more debian:12
