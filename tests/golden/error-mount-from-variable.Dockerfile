FROM debian
RUN --mount=from=$x,target=/x true
