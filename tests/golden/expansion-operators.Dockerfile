FROM debian:12
ENV set=a/b/c.tar.gz empty=
ENV v1=$set v2=${set} v3=${unset:-word} v4=${empty:-word} v5=${empty-word} v6=${unset-word}
ENV w1=${set:+word} w2=${empty:+word} w3=${empty+word} w4=${unset+word} w5=${set:?message} w6=${empty?message}
ENV p1=${set#*/} p2=${set##*/} p3=${set%.*} p4=${set%%.*} p5=${set#a?b}
ENV r1=${set/\//-} r2=${set//\//-} r3=${set/b*/x} r4=${set//[a]/x}
