FROM debian
RUN <<-EOF cat
foo
  EOF
