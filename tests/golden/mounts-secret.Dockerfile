FROM debian:12
RUN --mount=type=secret,id=token cat /run/secrets/token
RUN --mount=type=secret,id=token,env=TOKEN echo "$TOKEN"
RUN --mount=type=secret,id=token,target=/root/.netrc,mode=0440,uid=5,gid=6,required=true true
RUN --mount=type=secret,id=a,env=A,target=/a true
