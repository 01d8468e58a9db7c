FROM debian
RUN <<EOF
set -e
# not a comment
RUN not an instruction \
EOF
RUN <<-EOF
	indented
		twice
	EOF
RUN <<'EOF'
no $expansion
EOF
RUN <<EOF python3
print("x")
EOF
RUN cat <<A 3<<"B" > /out && true
a
A
b
B
RUN --mount=type=tmpfs,target=/t <<EOF
#!/usr/bin/env python3
print()
EOF
RUN <<  SPACED
SPACED
RUN echo "<<NO" '<<NO' a<<NO
RUN ["cat", "<<EOF"]
RUN <<'one two'
one two
RUN <<$EOF
$EOF
RUN <<e"o"f
eof
CMD cat <<NOT
ENTRYPOINT <<NOT
