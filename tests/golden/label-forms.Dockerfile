FROM debian
LABEL org.opencontainers.image.title="A title" version=1.0 "com.example.key"=value
LABEL old style label
LABEL multi="line \
value" \
      b=c
