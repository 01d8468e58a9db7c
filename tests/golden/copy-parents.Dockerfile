FROM debian:12
COPY --parents src/a/b.txt src/c /x/
COPY --parents ./deep/./pivot/f /y/
ADD --parents src/a.txt /z/
