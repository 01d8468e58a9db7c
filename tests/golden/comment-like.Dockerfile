FROM debian:12
RUN echo '# no comment' \
  # one
  && echo \# no comment
RUN echo a # what the shell takes for one
