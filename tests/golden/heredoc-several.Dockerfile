FROM debian:12
COPY <<one <<'two' three /dir/
1 $HOME
one
2 $HOME
two
RUN cat <<A - <<B > /out
a
A
b
B
ADD <<late /late
x
late
