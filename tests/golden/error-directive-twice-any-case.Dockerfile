# check=skip=all
# CHECK = error=true
FROM debian:12
