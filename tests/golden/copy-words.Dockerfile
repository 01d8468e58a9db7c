FROM debian:12
COPY a b c /no/slash/
COPY "a" /quoted/
COPY a\ b /escaped/
