# plan: --label from=outside --label b=outside
FROM debian:12 AS base
LABEL a=1 b=2
FROM base
LABEL b=3 "c d"="e f" of=
