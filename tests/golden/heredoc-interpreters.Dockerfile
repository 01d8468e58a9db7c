FROM debian:12
RUN <<EOF
#!/usr/bin/env python3
print("hello")
EOF
RUN <<-"EOF"
	#!/bin/bash
	echo $0
	EOF
RUN python3 <<EOF
print(1)
EOF
RUN <<EOF
echo one
false
echo two
EOF
