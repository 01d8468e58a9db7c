FROM debian:12
ENV A=1
CMD ["echo", "$A"]
ENTRYPOINT echo $A
