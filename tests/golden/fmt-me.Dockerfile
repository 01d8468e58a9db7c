from   debian:12  as   build


# a comment
run  apt-get update   && \
   
  # inside
     apt-get  install -y  curl
env   A=1    B=2
cmd [ "a","b" ]
