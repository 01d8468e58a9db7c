FROM debian:12
ARG A=a B=b
ENV one=${C:-${D:-$A}} two="${C:-"$B"}" three=${A:+${B:+both}} four=${C:-'$A'} five=${A#${A}}
