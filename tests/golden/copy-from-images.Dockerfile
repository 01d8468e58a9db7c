FROM scratch
COPY --from=busybox:1.36 /bin/sh /bin/
COPY --from=registry.example/x@sha256:3333333333333333333333333333333333333333333333333333333333333333 /y /y
COPY --from=./other.rec#jre /opt /opt
COPY --from=named-context file /z
