FROM debian:12
WORKDIR /w
COPY a .
COPY a ./
COPY a ..
COPY a b
COPY a b/
COPY a //x//../y
COPY a /../../z
COPY a b/.
COPY ["a", ""]
