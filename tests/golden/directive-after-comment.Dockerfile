# a comment ends the directives
# escape=`
FROM debian
RUN echo \
  joined
