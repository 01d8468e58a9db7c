FROM debian:12
RUN --mount=type=ssh git clone git@example.org:x
RUN --mount=type=ssh,id=other,target=/agent,required=true,mode=0600,uid=1,gid=1 true
