FROM debian:12
COPY ../x /a/
COPY /abs/../y /b/
COPY a/../../z /c/
