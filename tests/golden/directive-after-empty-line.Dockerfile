
# escape=`
FROM debian:12
RUN echo \
  joined
