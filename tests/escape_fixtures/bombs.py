"""Little that becomes much: compressed zeros, patterns, names, recipes."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator

from tests.changeset_fixtures.tars import Raw, folder, tar
from tests.escape_fixtures.case import Case, Group, Scene
from tests.escape_fixtures.place import Place, descriptor, digest

_OCI = "application/vnd.oci.image"
_LIGHT = 64 << 20
_HEAVY = 4 << 30


def _pieces(size: int) -> Iterator[bytes]:
    """Yield a tar of one file of `size` zeros."""
    yield Raw(b"zeros", size=b"%011o" % size).block()
    for _ in range(size >> 20):
        yield bytes(1 << 20)
    yield bytes(1024)


def _compressed(kind: str, size: int) -> bytes:
    if kind == "gzip":
        out = io.BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6, mtime=0) as file:
            for piece in _pieces(size):
                file.write(piece)
        return out.getvalue()
    if kind == "zstd":
        import zstandard

        zstd = zstandard.ZstdCompressor(level=3).compressobj()
        return b"".join(map(zstd.compress, _pieces(size))) + zstd.flush()
    packer = bz2.BZ2Compressor() if kind == "bzip2" else lzma.LZMACompressor(preset=0)
    return b"".join(map(packer.compress, _pieces(size))) + packer.flush()


def _in_context(kind: str, size: int) -> Scene:
    def scene(place: Place) -> None:
        place.write("bomb", _compressed(kind, size))

    return scene


def _as_layer(kind: str, size: int) -> Scene:
    """Let there be an image with a layer that is a bomb, and says another size of itself."""

    def scene(place: Place) -> None:
        import hashlib

        blob = _compressed(kind, size)
        whole = hashlib.sha256()
        for piece in _pieces(size):
            whole.update(piece)
        document = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + whole.hexdigest()]},
        }
        config = json.dumps(document).encode()
        manifest = {
            "schemaVersion": 2,
            "config": descriptor(f"{_OCI}.config.v1+json", config),
            "layers": [descriptor(f"{_OCI}.layer.v1.tar+{kind}", blob)],
        }
        place.layout_of(f"{place.directory}/image", json.dumps(manifest).encode(), config, blob)

    return scene


def _files(**files: str | bytes) -> Scene:
    def scene(place: Place) -> None:
        for name, data in files.items():
            place.write(name.replace("__", "."), data)

    return scene


def _bombs(
    name: str, tried: str, instead: str, recipe: str, make: Callable[[str, int], Scene]
) -> tuple[Case, ...]:
    kinds = ("gzip", "zstd", "xz", "bzip2") if name == "add-bomb" else ("gzip", "zstd")
    return tuple(
        Case(
            f"{name}-{kind}{'-heavy' if size == _HEAVY else ''}",
            tried if (kind, size) == ("gzip", _LIGHT) else "",
            instead if (kind, size) == ("gzip", _LIGHT) else "",
            (recipe,),
            make(kind, size),
            heavy=size == _HEAVY,
            code=None if size == _HEAVY else "",
        )
        for size in (_LIGHT, _HEAVY)
        for kind in kinds
    )


def _window(place: Place) -> None:
    """Let there be compressed files whose headers ask for gigabytes of memory."""
    # A zstd frame with a window of 2^41 bytes; xz with a dictionary of 4 GiB - 1.
    place.write("zstd", b"\x28\xb5\x2f\xfd\x00\xf8" + b"\x01\x00\x00" + bytes(64))
    filters = [
        {"id": lzma.FILTER_LZMA2, "dict_size": (1 << 30) + (1 << 29), "mode": lzma.MODE_FAST, "nice_len": 8}
    ]
    try:
        place.write("xz", lzma.compress(tar(Raw(b"a", data=b"x")), filters=filters))
    except MemoryError:
        place.write("xz", b"\xfd7zXZ\x00\x00\x04" + bytes(64))


def _lying_size(place: Place) -> None:
    """Let the manifest say that a layer has other sizes than it has."""
    layer = place.base_layer()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
    ).encode()
    said = descriptor(f"{_OCI}.layer.v1.tar", layer) | {"size": 1000}
    manifest = {"schemaVersion": 2, "config": descriptor(f"{_OCI}.config.v1+json", config), "layers": [said]}
    place.layout_of(f"{place.directory}/image", json.dumps(manifest).encode(), config, layer)


_PATTERNS = "\n".join(
    (
        "**/" * 60 + "z",
        ("*a" * 60) + "z",
        "(" * 500 + "a+)+" * 500,
        "[" + "a-" * 5000 + "]",
        "a" + "?" * 200 + "*" * 200 + "b",
        *("!" + "**/*a*" * 20 + f"{each}" for each in range(50)),
    )
)


BOMBS = Group(
    "Bombs",
    (
        *_bombs(
            "add-bomb",
            "ADD of 64 MiB of zeros in some kilobytes (`make escapes`: 4 GiB), by gzip, zstd, xz and bzip2",
            "unpacked as it comes, in memory that does not grow with it; what bounds it is the store's "
            "disk, and a full "
            "disk is an error that leaves nothing",
            "FROM scratch\nADD bomb /x/\n",
            _in_context,
        ),
        *_bombs(
            "layer-bomb",
            "a layer of that kind",
            "the same",
            "FROM oci-layout://PLACE/image\n",
            _as_layer,
        ),
        Case(
            "window",
            "headers that ask for gigabytes of memory: a window of zstd, a dictionary of xz",
            "copied as files that are no archives, or an error",
            ("FROM scratch\nADD zstd /x\n", "FROM scratch\nADD xz /x\n"),
            _window,
            code=None,
        ),
        Case(
            "nested-archives",
            "a bomb within a bomb",
            "what is in an archive is not unpacked",
            ("FROM base\nADD outer /x/\nRUN test $(stat -c %s /x/inner) -lt 1000000\n",),
            lambda place: (
                place.write("outer", gzip.compress(tar(Raw(b"inner", data=_compressed("gzip", _LIGHT))))),
                None,
            )[-1],
        ),
        Case(
            "lying-size",
            "a layer that is longer than its manifest says",
            "an error",
            ("FROM oci-layout://PLACE/image\n",),
            _lying_size,
            code=("image/format", "image/digest", "cache/mismatch", "image/corrupt"),
        ),
        Case(
            "ignore-patterns",
            "patterns of an ignore file, of --exclude and of COPY that make a regular expression try for "
            "ever",
            "they are matched in time that grows with the names, or are errors",
            (
                "FROM scratch\nCOPY . /x\n",
                "FROM scratch\nCOPY " + "*a" * 60 + "z /y/\n",
                "FROM scratch\nCOPY --exclude=" + "**/*a" * 40 + "z . /y/\n",
            ),
            _files(__dockerignore=_PATTERNS, **{"a" * 200: "x", "/".join("a" * 40): "x"}),
            code=None,
        ),
        Case(
            "ignore-file-huge",
            "an ignore file that is a link to /dev/zero, or a fifo",
            "an error, or none; nobody waits",
            ("FROM scratch\nCOPY f /x\n",),
            lambda place: (place.link(".dockerignore", "/dev/zero"), place.write("f", "x"), None)[-1],
            code=None,
        ),
        Case(
            "config-file-device",
            "pybuild.toml, the lock file and the recipe as links to /dev/zero and fifos",
            "an error; nobody waits",
            ("FROM scratch\nCOPY f /x\n",),
            lambda place: (
                place.link("pybuild.toml", "/dev/zero"),
                place.link("try0.lock", "/dev/zero"),
                place.link("zero.rec", "/dev/zero"),
                place.write("f", "x"),
                None,
            )[-1],
            commands=(
                ("build", "zero.rec"),
                ("check", "zero.rec"),
                ("plan", "zero.rec"),
                ("lock", "zero.rec"),
            ),
            code=None,
        ),
        Case(
            "recipe-nested",
            "a recipe whose expansions, continuations, includes or JSON lie a hundred thousand deep",
            "an error",
            (
                "FROM scratch\nENV A=" + "${A:-" * 20_000 + "x" + "}" * 20_000 + "\n",
                "FROM scratch\nCMD " + "[" * 100_000 + "\n",
                "FROM scratch\nENV A=x\n" + "ENV A=$A$A$A$A$A$A$A$A\n" * 30,
                "FROM scratch\nONBUILD " * 5000 + "RUN x\n",
                "FROM scratch\nLABEL a=\\\n" + "\\\n" * 100_000 + "x\n",
            ),
            code=None,
        ),
        Case(
            "include-itself",
            "INCLUDE of itself, of two files in a circle, and of twice as many at each of 30 levels",
            "an error",
            ("INCLUDE try0.rec\nFROM scratch\n", "FROM scratch\nINCLUDE l0\n"),
            _files(
                **{f"l{level}": f"INCLUDE l{level + 1}\nINCLUDE l{level + 1}\n" for level in range(30)},
                l30="ENV A=b\n",
            ),
            code=None,
        ),
        Case(
            "lock-hostile",
            "a lock file with digests that are paths, other names, a million lines, deep tables",
            "an error",
            ("FROM scratch\nCOPY f /x\n",),
            _files(
                try0__lock="version = 1\n[base]\n"
                + '"x" = "sha256:../../outside/secret"\n'
                + "a = "
                + "[" * 50_000,
                f="x",
            ),
            code=None,
        ),
        Case(
            "output-endless",
            "a step that writes 30 MB without a newline, and 200,000 lines",
            "passed on in pieces; memory does not grow with it",
            (
                "FROM base\nRUN head -c 30000000 /dev/zero | tr '\\0' x\n",
                "FROM base\nRUN seq 200000\n",
            ),
        ),
        Case(
            "step-sparse",
            "a step that leaves a file of 5 TB, all hole",
            "an error that says so: a layer would hold each byte of it",
            (
                "FROM base\nRUN busybox truncate -s 5120G /huge\n",
                "FROM base\nRUN busybox truncate -s 5120G /huge; rm /huge\n",
            ),
            code=("layer/sparse", ""),
        ),
        Case(
            "many-names",
            "a directory of 5,000 names as long as names can be",
            "copied",
            ("FROM scratch\nCOPY d /d\n",),
            lambda place: ([place.write(f"d/{number:0250d}", "") for number in range(5000)], None)[-1],
        ),
    ),
)
assert folder
