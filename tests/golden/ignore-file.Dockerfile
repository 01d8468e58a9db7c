FROM debian:12
COPY secret.txt /a/
COPY secret.txt.keep other.txt /b/
COPY logs/a/b.log /c/
