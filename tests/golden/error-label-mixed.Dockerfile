FROM debian
LABEL a=1 b c=2
