FROM debian
ONBUILD RNU true
