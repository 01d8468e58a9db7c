# colour=blue
# escape=`
FROM debian:12
RUN echo the escape is \
  what it was
