FROM debian:12
RUN --mount=type=secret,id=x,required=perhaps true
