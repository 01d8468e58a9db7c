FROM debian:12
ENV a=1
ENV a=2 b=$a c=${a}x
ENV d=$b
ENV PATH=/opt/bin:$PATH
