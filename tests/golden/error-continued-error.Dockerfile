FROM debian
COPY --chmod=755 \
  # where
  --formm=x \
  a b
