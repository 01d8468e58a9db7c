FROM scratch
ARG A=1
ONBUILD COPY --chown=$A . /app
ONBUILD RUN make && \
  make install
ONBUILD RUN <<EOF
echo $A
EOF
ONBUILD CMD ["x"]
