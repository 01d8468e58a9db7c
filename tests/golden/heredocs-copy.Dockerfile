FROM debian
COPY <<EOF /etc/motd
Hello $NAME
EOF
COPY --chmod=755 <<'one' two.txt <<-"three" /dir/
$1
one
	3
three
ADD <<empty /empty
empty
COPY ["<<no", "/x"]
