FROM debian:12
COPY *.txt d?r/[a-c]*.conf /a/
COPY **/*.go /b/
COPY [^a]* \*literal /c/
ADD *.tar /d/
