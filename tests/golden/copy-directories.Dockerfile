FROM debian:12
COPY dir /a
COPY dir/ /b/
COPY . /c
COPY one two/ /d/
COPY one /e/one
COPY one .
