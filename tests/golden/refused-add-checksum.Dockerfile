FROM debian:12
ADD --checksum=md5:1234 https://example.org/f /f
