FROM debian:12
COPY --chmod=u+rwz a /
