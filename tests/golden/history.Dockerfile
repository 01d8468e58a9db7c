# plan: --build-arg B=given
FROM debian:12
ARG A=1 B C
ENV E="two words"
RUN echo $A
RUN ["echo", "$A"]
COPY --chown=1:2 --chmod=640 a b/ /dest/
ADD c /
WORKDIR /work
USER app
EXPOSE 80
VOLUME /v
LABEL a=b
ONBUILD RUN never
MAINTAINER me
CMD ["a"]
ENTRYPOINT exec b
STOPSIGNAL 9
SHELL ["/bin/sh", "-c"]
HEALTHCHECK NONE
