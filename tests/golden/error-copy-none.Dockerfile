FROM debian
COPY
