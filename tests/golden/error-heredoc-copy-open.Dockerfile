FROM debian:12
COPY <<a <<b /x/
1
a
2
