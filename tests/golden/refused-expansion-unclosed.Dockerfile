FROM debian:12
ENV B=1 A=${B
