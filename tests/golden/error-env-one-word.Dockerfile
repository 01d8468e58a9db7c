FROM debian
ENV A
