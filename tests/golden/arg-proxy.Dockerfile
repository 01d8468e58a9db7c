# plan: --build-arg HTTP_PROXY=http://user:secret@proxy:3128 --build-arg no_proxy=localhost
FROM debian:12
RUN curl http://example.org/
