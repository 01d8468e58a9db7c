FROM debian:12
ADD a.tar.gz b.txt /x/
ADD --unpack=false a.tar.gz /y/
ADD --unpack=true a.tar.xz /z/
ADD --chown=1:1 --chmod=600 dir /d
