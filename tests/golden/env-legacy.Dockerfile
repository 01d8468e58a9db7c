FROM debian:12
ENV WORDS  the rest of  the line, "quotes" too
ENV NAME $WORDS
LABEL one two three
