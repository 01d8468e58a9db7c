FROM debian
ONBUILD FROM alpine
