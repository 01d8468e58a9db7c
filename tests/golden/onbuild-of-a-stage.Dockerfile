FROM scratch AS parent
ONBUILD ENV TRIGGERED=yes
ONBUILD COPY a /a
FROM parent AS child
RUN child
FROM child AS grandchild
RUN grandchild
