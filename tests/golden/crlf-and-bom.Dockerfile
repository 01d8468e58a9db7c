# escape=\
FROM debian
RUN echo a \

  # c
  b
COPY <<EOF /x
one
two
EOF
