FROM debian AS base
FROM debian
ARG ID
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked,id=apt,mode=0755,uid=1,gid=2,from=base,source=/x true
RUN --mount=target=/src,rw --mount=type=bind,src=/a,dst=/b,readonly=false true
RUN --mount=type=tmpfs,destination=/tmp,size=64m true
RUN --mount=type=secret,id=token,required,env=TOKEN --mount=type=secret,id=$ID,target=/run/x,mode=0400 true
RUN --mount=type=ssh,required=true ["git", "clone"]
RUN --mount=type=bind,"source=a b",target=/c --mount='type=cache,target=/d e' true
