"""Archives that ADD unpacks, and layers of images."""

from __future__ import annotations

import json
import os

from tests.changeset_fixtures.tars import Raw, folder, hard, link, pax, tar
from tests.escape_fixtures.case import Case, Group, Scene
from tests.escape_fixtures.place import Place, descriptor, digest
from tests.escape_fixtures.programs import probe

_FROM = "FROM oci-layout://PLACE/image\n"
_OCI = "application/vnd.oci.image"


def _bytes(place: Place, text: str) -> bytes:
    return os.fsencode(place.fill(text))


def _added(*entries: Raw, below: str = "t.tar") -> Scene:
    """Let the context have an archive. OUTSIDE is what it says elsewhere."""

    def scene(place: Place) -> None:
        place.write(below, tar(*(_placed(place, entry) for entry in entries)))
        place.link(f"{place.root}/out", place.outside)

    return scene


def _placed(place: Place, entry: Raw) -> Raw:
    from dataclasses import replace

    def fill(data: bytes) -> bytes:
        return data.replace(b"OUTSIDE", os.fsencode(place.outside))

    return replace(entry, name=fill(entry.name), link=fill(entry.link), data=fill(entry.data))


def _layers(*layers: tuple[Raw, ...], base: bool = True) -> Scene:
    """Let there be an image of these layers, on top of the base's."""

    def scene(place: Place) -> None:
        place.write(f"{place.root}/bin/probe", probe(), 0o755)
        tars = [tar(*(_placed(place, entry) for entry in layer)) for layer in layers]
        place.layout(*([place.base_layer()] if base else []), *tars)

    return scene


def _sizes(*records: tuple[bytes, bytes]) -> Raw:
    return pax(*records)


def _each(*lines: str) -> tuple[str, ...]:
    return tuple(f"FROM base\n{line}\n" for line in lines)


def _sparse(size: int) -> bytes:
    """Return a tar of a file that is a hole but for its last two bytes."""
    records = (
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"%d" % size),
    )
    return tar(pax(*records), Raw(b"huge", data=(b"1\n%d\n2\n" % (size - 2)).ljust(512, b"\x00") + b"ab"))


def _gives_nothing(*paths: str) -> str:
    """Return a command that fails if a byte can be read from one of them."""
    return " && ".join(f'test -z "$(head -c 1 {path})"' for path in paths)


ARCHIVES = Group(
    "Archives that ADD unpacks",
    (
        Case(
            "add-through-link",
            "a link to a directory of the host, then a file below that name; a chain of them",
            "the link is followed within the directory that it is unpacked in",
            _each("ADD t.tar /x/\nRUN ! cat OUTSIDE/secret"),
            _added(
                link(b"a", b"OUTSIDE"),
                Raw(b"a/secret", data=b"x"),
                link(b"b", b"a"),
                Raw(b"b/inner", data=b"x"),
            ),
        ),
        Case(
            "add-onto-link",
            "an archive whose files go through links that the image has",
            "links of the image end within it",
            _each("ADD t.tar /out/\nRUN test -f OUTSIDE/secret"),
            _added(
                Raw(b"secret", data=b"x"),
                folder(b"directory", b"0000777"),
                Raw(b"directory/inner", data=b"y"),
            ),
        ),
        Case(
            "add-absolute",
            "absolute names",
            "they begin at the destination",
            _each("ADD t.tar /x/\nRUN test -f /xOUTSIDE/secret"),
            _added(Raw(b"OUTSIDE/secret", data=b"x")),
        ),
        Case(
            "add-dots",
            "names of `..`",
            "refused",
            _each("ADD t.tar /x/"),
            _added(Raw(b"a/../../outside/secret", data=b"x")),
            code="add/archive",
        ),
        Case(
            "add-hard-link",
            "hard links to files of the host, by name and through a link",
            "refused: there is nothing of that name in the archive",
            _each("ADD t.tar /x/"),
            _added(link(b"a", b"OUTSIDE"), hard(b"b", b"a/secret")),
            code="add/archive",
        ),
        Case(
            "add-hard-link-absolute",
            "the same by absolute name",
            "refused",
            _each("ADD t.tar /x/"),
            _added(hard(b"b", b"OUTSIDE/secret")),
            code="add/archive",
        ),
        Case(
            "add-device",
            "nodes of disks and memory, opened by the next step",
            "they are in the image, and cannot be opened: the root is nodev. Without root, empty files stand "
            "for them in steps",
            _each(f"ADD t.tar /x/\nRUN test -e /x/sda && {_gives_nothing('/x/sda', '/x/mem')}"),
            _added(Raw(b"sda", b"4", device=(b"10", b"0")), Raw(b"mem", b"3", device=(b"1", b"1"))),
        ),
        Case(
            "add-whiteout",
            "an overlay's whiteout: a device 0:0",
            "refused",
            _each("ADD t.tar /x/"),
            _added(Raw(b"gone", b"3", device=(b"0", b"0"))),
            code="add/archive",
        ),
        Case(
            "add-setuid",
            "set-user-ID files of root's",
            "the mode is kept in the image; in the store nobody but root gets at them",
            _each("ADD t.tar /x/\nRUN test $(stat -c %a /x/su) = 4755"),
            _added(Raw(b"su", mode=b"0004755", data=b"#!/bin/sh\n")),
        ),
        Case(
            "add-deep",
            "directories within directories, as deep as a path can be",
            "an error: more than 256 are too many",
            _each("ADD t.tar /x/\nRUN rm -rf /x"),
            _added(*(folder(b"d/" * depth) for depth in range(300, 1000, 300))),
            code="copy/depth",
        ),
        Case(
            "copy-deep",
            "a context that is as deep as that, copied, mounted, in place of a file",
            "the same",
            _each(
                "COPY . /x/", "RUN --mount=target=/m,rw ls /m", "COPY --from=more . /\nCOPY --from=more d /d/"
            ),
            lambda place: (
                os.makedirs(f"{place.context}/{'d/' * 400}"),
                None,
            )[-1],
            words=("--build-context", "more=."),
            code="copy/depth",
        ),
        Case(
            "add-fifo",
            "a fifo, and a name that is opened again after one",
            "nobody waits",
            _each("ADD t.tar /x/\nRUN test -p /x/f"),
            _added(Raw(b"f", b"6"), hard(b"g", b"f")),
        ),
    ),
)

LAYERS = Group(
    "Layers of an image",
    (
        Case(
            "layer-dots",
            "a name of `..`",
            "refused",
            (_FROM,),
            _layers((Raw(b"../outside/secret", data=b"x"),)),
            code="image/format",
        ),
        Case(
            "layer-through-link",
            "a link to the host, and files through it: in one layer, and from one to the next",
            "links are followed within the image",
            (_FROM + "RUN test -f OUTSIDE/secret -a -f OUTSIDE/new\n",),
            _layers((link(b"a", b"OUTSIDE"), Raw(b"a/secret", data=b"x")), (Raw(b"a/new", data=b"y"),)),
        ),
        Case(
            "layer-whiteouts",
            "whiteouts and opaque markers through links to the host, with slashes and `..` in them",
            "they hide what the image has; others are refused",
            (_FROM + "RUN true\n",),
            _layers((link(b"a", b"OUTSIDE"),), (Raw(b"a/.wh.secret"), Raw(b"a/.wh..wh..opq"))),
        ),
        Case(
            "layer-whiteout-with-slash",
            "a file below a whiteout's name",
            "refused",
            (_FROM,),
            _layers((Raw(b".wh.a/../b", data=b"x"),)),
            code="image/format",
        ),
        Case(
            "layer-whiteout-dots",
            "whiteouts of `.`, `..` and of nothing",
            "refused",
            (_FROM,),
            _layers((Raw(b"etc/.wh..."),)),
            code="image/format",
        ),
        Case(
            "layer-hard-link",
            "hard links to files of the host, through links of a lower layer",
            "refused: there is nothing of that name in the image",
            (_FROM,),
            _layers((link(b"a", b"OUTSIDE"),), (hard(b"b", b"a/secret"),)),
            code="image/format",
        ),
        Case(
            "layer-overlay-attributes",
            "overlayfs's own attributes: a redirect to another directory, metadata without data",
            "not taken: they are the store's own",
            (_FROM + "RUN ! cat /a/secret && ! grep . /b\n",),
            _layers(
                (
                    pax(
                        (b"SCHILY.xattr.trusted.overlay.redirect", b"/../../../outside"),
                        (b"SCHILY.xattr.user.overlay.redirect", b"/../../../outside"),
                        (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
                    ),
                    folder(b"a"),
                    pax(
                        (b"SCHILY.xattr.trusted.overlay.metacopy", b""),
                        (b"SCHILY.xattr.trusted.overlay.redirect", b"/etc/shadow"),
                    ),
                    Raw(b"b"),
                )
            ),
        ),
        Case(
            "layer-device",
            "nodes of disks, memory and /dev/null with mode 0666, opened by steps, before and after a copy",
            "they cannot be opened, or are empty files to the step",
            (
                f"{_FROM}RUN {_gives_nothing('/sda', '/mem', '/d/mem')}\n"
                f"RUN cp -a /mem /mem2 && {_gives_nothing('/mem2')}\n",
            ),
            _layers(
                (
                    Raw(b"sda", b"4", mode=b"0000666", device=(b"10", b"0")),
                    Raw(b"mem", b"3", mode=b"0000666", device=(b"1", b"1")),
                    folder(b"d"),
                    Raw(b"d/mem", b"3", mode=b"0000666", device=(b"1", b"1")),
                )
            ),
        ),
        Case(
            "layer-sandbox-links",
            "/proc, /sys, /dev as links to elsewhere",
            "an error: a step's view of the kernel must be where programs look for it",
            (_FROM + "RUN true\n",),
            _layers((link(b"proc", b"/etc"), link(b"dev", b"OUTSIDE"))),
            code="step/mount",
        ),
        Case(
            "layer-etc-links",
            "/etc/resolv.conf, hosts and hostname as links to the host's files, to /proc, to fifos",
            "they end in the image; what is mounted there is in memory",
            (_FROM + "RUN echo x > /etc/hosts; echo y > /etc/hostname; true\n",),
            _layers(
                (
                    link(b"etc/hosts", b"OUTSIDE/secret"),
                    link(b"etc/hostname", b"/proc/sys/kernel/hostname"),
                    link(b"etc/resolv.conf", b"../../../../../..OUTSIDE/passwd"),
                )
            ),
            code=None,
        ),
        Case(
            "layer-root-mode",
            "a root directory of mode 0000 that belongs to somebody",
            "the root's attributes are the store's",
            (_FROM + "USER app\nRUN true\n",),
            _layers((Raw(b"./", b"5", mode=b"0000000", uid=b"0001750"),)),
        ),
        Case(
            "layer-pax-huge",
            "an extended header of 1 GB, and one of 600,000 records",
            "1 MiB is the most that one may have",
            (_FROM,),
            _layers((Raw(b"x", b"x", size=b"07777777777"), Raw(b"f"))),
            code="image/format",
        ),
        Case(
            "layer-pax-many",
            "an extended header of as many records as there is room for, 20 times",
            "read one after the other, in memory that does not grow",
            (_FROM + "RUN true\n",),
            _layers(
                tuple(
                    entry
                    for number in range(20)
                    for entry in (
                        pax(*((b"k%d" % each, b"v") for each in range(50_000))),
                        Raw(b"f%d" % number),
                    )
                )
            ),
        ),
        Case(
            "layer-deep",
            "directories within directories, as deep as a path can be",
            "unpacked, run on and removed; or refused",
            (_FROM + "RUN rm -rf /d\n",),
            _layers(tuple(folder(b"d/" * depth) for depth in range(300, 1000, 300))),
            code=None,
        ),
        Case(
            "layer-deep-files",
            "files at the end of chains of 900 directories, which no entry makes",
            "unpacked in time that grows with them, and removed",
            (_FROM + "RUN rm -rf /0\n",),
            _layers(
                tuple(
                    Raw(b"%d/" % (number % 3) + b"d/" * 900 + b"%d" % number, data=b"x")
                    for number in range(9)
                )
            ),
            code=None,
        ),
        Case(
            "layer-sparse",
            "a sparse file of 5 TB in a kilobyte",
            "an error that says so: a layer holds each byte of a file",
            (_FROM,),
            lambda place: (place.layout(place.base_layer(), _sparse(5 << 40)), None)[-1],
            code="layer/sparse",
        ),
        Case(
            "layer-many",
            "15,000 entries",
            "unpacked as they come, in memory that does not grow with them",
            (_FROM + "RUN test $(ls /m | wc -l) = 15000\n",),
            _layers(tuple(Raw(b"m/%d" % number) for number in range(15_000)), base=True),
        ),
        Case(
            "layer-ten-millions",
            "10 million entries",
            "the same",
            (_FROM,),
            lambda place: _millions(place, 10_000_000),
            heavy=True,
        ),
    ),
)


def _millions(place: Place, count: int) -> None:
    """Make an image of a layer with `count` entries, written as it goes."""
    import gzip
    import hashlib

    path = f"{place.directory}/layer"
    uncompressed = hashlib.sha256()
    with gzip.open(path, "wb", compresslevel=1) as out:

        def write(data: bytes) -> None:
            uncompressed.update(data)
            out.write(data)

        # The same names over and over: the last one counts, and the disk need not have as many inodes.
        some = b"".join(Raw(b"m/%d" % number).bytes() for number in range(1000))
        for _ in range(count // 1000):
            write(some)
        write(bytes(1024))
    with open(path, "rb") as file:
        compressed = hashlib.file_digest(file, "sha256").hexdigest()
    layout = f"{place.directory}/image"
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + uncompressed.hexdigest()]},
    }
    config = json.dumps(document).encode()
    layer = {
        "mediaType": f"{_OCI}.layer.v1.tar+gzip",
        "digest": f"sha256:{compressed}",
        "size": os.path.getsize(path),
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": descriptor(f"{_OCI}.config.v1+json", config),
        "layers": [layer],
    }
    place.layout_of(layout, json.dumps(manifest).encode(), config)
    os.rename(path, f"{layout}/blobs/sha256/{compressed}")
    assert digest(config)
