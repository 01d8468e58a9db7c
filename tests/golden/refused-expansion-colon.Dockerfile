FROM debian:12
ENV A=${B:1:2}
