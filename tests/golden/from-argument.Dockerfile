ARG IMAGE=debian TAG=12
ARG FULL=${IMAGE}:${TAG:-latest}
FROM ${FULL} AS base
FROM ${NOTHING:-base}
RUN true
