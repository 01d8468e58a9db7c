FROM debian AS base
FROM debian
COPY --from=BASE /a /b
COPY --from=0 --chown=user:group --chmod=u+rwX,go-w --link --parents --exclude=*.md --exclude=docs/** a ./b /c/
COPY --link=false --parents=TRUE a /b
COPY --from=registry.example:5000/image:tag@sha256:5555555555555555555555555555555555555555555555555555555555555555 /a /b
COPY ["a file", "with $VAR", "/dest dir/"]
COPY "quoted" /dest/
COPY *.txt d?r/[a-z] /
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.org/f /f
ADD --keep-git-dir=true --link https://github.com/moby/buildkit.git#v0.10.1 /buildkit
ADD --unpack=false archive.tar.gz --unpack /x/
ADD --unpack --chown=1 --chmod=0644 --exclude=a --parents x /y
