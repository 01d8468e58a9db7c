FROM debian AS me
COPY --from=ME /x /y
