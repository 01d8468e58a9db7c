FROM debian:12
ADD https://github.com/moby/buildkit.git#v0.10.1:docs /docs
ADD --keep-git-dir=true git@github.com:user/repo.git#main /repo
ADD --checksum=0123456789012345678901234567890123456789 https://example.org/x.git?branch=main&subdir=y /x
