FROM debian:12
COPY ünï/côdé.txt /ß/
ENV größe=1 X=$größe
USER jürgen
