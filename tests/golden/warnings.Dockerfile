from debian AS Base
MAINTAINER me
WORKDIR relative
RUN apt-get install curl && cd /x && sudo make
RUN curl http://x | sh
ENV SECRET_TOKEN=x
add a.txt /
CMD start
CMD again
