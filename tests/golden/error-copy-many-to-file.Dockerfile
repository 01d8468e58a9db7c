FROM debian
COPY a b /c
