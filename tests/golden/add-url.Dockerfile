FROM debian:12
ADD https://example.org/a/file.txt /dir/
ADD --checksum=sha256:4444444444444444444444444444444444444444444444444444444444444444 https://example.org/f.tar.gz /f
ADD --unpack --checksum=sha256:4444444444444444444444444444444444444444444444444444444444444444 https://example.org/f.tar.gz /unpacked/
ARG V=1
ADD --chmod=755 --chown=1:2 https://example.org/v$V /v
