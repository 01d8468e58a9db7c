ARG A=a
FROM debian:12 AS a
COPY --from=b /x /x
FROM $A AS b
