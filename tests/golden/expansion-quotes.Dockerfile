FROM debian:12
ARG A=a
ENV single='$A "x" \n' double="$A 'x' \n \" \$ \\" bare=$A\ \$A\"\\\n
ENV number=$1 all=$@ dot=$. end=$ braces=$A{} unicode=$Aé
LABEL "quoted $A"="value '$A'" plain=x"y"'z'
