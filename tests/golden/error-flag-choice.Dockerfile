FROM debian
RUN --network=hosts true
