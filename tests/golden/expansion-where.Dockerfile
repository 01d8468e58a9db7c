FROM debian:12
ARG A=a
ADD $A.txt /add/$A/
COPY $A /copy/$A
COPY ["$A b", "/json/$A/"]
ENV env=$A
EXPOSE 80
LABEL label=$A
STOPSIGNAL ${A:+SIGINT}
USER $A:$A
VOLUME /$A ["/json"]
VOLUME ["/$A/json"]
WORKDIR /$A
ONBUILD ENV B=$A
RUN echo $A
RUN ["echo", "$A"]
CMD echo $A
ENTRYPOINT ["echo", "$A"]
SHELL ["$A", "-c"]
HEALTHCHECK CMD echo $A
MAINTAINER $A
