FROM debian
ONBUILD COPY . /app
ONBUILD RUN --network=none \
    make
onbuild run <<EOF
echo hi
EOF
ONBUILD ENV A=1
ONBUILD CMD ["x"]
ONBUILD HEALTHCHECK NONE
