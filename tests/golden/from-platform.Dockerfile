# plan: --platform=linux/arm64/v8
FROM --platform=$BUILDPLATFORM golang:1.22 AS build
ARG TARGETARCH TARGETVARIANT BUILDARCH
RUN go build -arch=$TARGETARCH
FROM --platform=linux/s390x alpine:3 AS other
FROM alpine:3
ARG TARGETPLATFORM
COPY --from=build /app /app
COPY --from=other /x /x
RUN /app --on=$TARGETPLATFORM
