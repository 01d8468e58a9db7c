FROM debian
ENV =1
