FROM debian
COPY --From=x a b
