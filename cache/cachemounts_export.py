"""Writing cache mounts to an archive: one tar of them all, in memory that does not grow with them.

    pybuild-cache-mounts.json     {"version": 1, "mounts": [{"id", "base", "uid", "gid", "mode"}, ...]}
    0/  0/...                     the first one's directory, and what is in it
    1/  1/...                     the second one's
    pybuild-cache-mounts.sha256   the digest of every byte of the tar before this entry's header

The tar is a pure function of the mounts: entries in the order of cache/upperdir.py, headers of
cache/tar_format.py. Unlike a layer's it has times to the nanosecond, which cargo, ninja and make compare, the
attributes of the directory itself, and no whiteouts: a name in `.wh.` is a name. Sockets and devices are left
out: nothing that is cached is one.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from stat import S_IFBLK, S_IFCHR, S_IFMT, S_IFREG, S_IFSOCK
from typing import TYPE_CHECKING

from cache import tar_format
from cache.cachemounts import read_identity
from cache.changeset import CHUNK, NANOSECONDS
from cache.disk import storing
from cache.errors import StoreError
from cache.tar_entry import Describer
from cache.upperdir import READ, READ_DIRECTORY, walk, xattrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cache.cachemounts import CacheMounts, Identity
    from cache.changeset import Output
    from cache.upperdir import Entry

MANIFEST = b"pybuild-cache-mounts.json"
DIGEST = b"pybuild-cache-mounts.sha256"
VERSION = 1
_LEFT_OUT = frozenset((S_IFSOCK, S_IFCHR, S_IFBLK))
_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Exported:
    """A mount as it went into an archive: its entries, the bytes of its files, and how many sockets and
    devices were left out."""

    name: str
    identity: Identity
    entries: int
    size: int
    left_out: int


def export(
    mounts: CacheMounts,
    names: Sequence[str],
    out: Output,
    *,
    on_wait: Callable[[str], None] | None = None,
) -> list[Exported]:
    """Write the instances `names` to `out`, an uncompressed tar; return what went.

    One that is in use is waited for (`on_wait` gets its id, once), and who wants one while it is written
    waits in turn. Raises StoreError if one is not there, or changes meanwhile; FormatError for what no
    archive can hold; and `out`'s errors.
    """
    identities = [_identity(mounts, name) for name in names]
    sink = _Sink(out)
    text = json.dumps({"version": VERSION, "mounts": [_described(each) for each in identities]}, indent=1)
    _add_file(sink, MANIFEST, text.encode() + b"\n")
    exported = []
    for number, (name, identity) in enumerate(zip(names, identities, strict=True)):
        with storing(f"exporting the cache mount {identity.id}"):
            exported.append(_export(mounts, name, identity, b"%d/" % number, sink, on_wait))
    _add_file(sink, DIGEST, sink.digest().encode() + b"\n")
    sink.write(tar_format.END)
    sink.flush()
    return exported


def _identity(mounts: CacheMounts, name: str) -> Identity:
    described = read_identity(f"{mounts.path}/{name}")
    if described is None:
        raise StoreError(
            f"the cache mount {name} does not say what it is of",
            code="cachemount/damaged",
            hint=f"`pybuild cache-mounts rm {name}`: it is made anew when it is needed",
        )
    return described[0]


def _described(identity: Identity) -> dict[str, object]:
    return {
        "id": identity.id,
        "base": identity.base,
        "uid": identity.uid,
        "gid": identity.gid,
        "mode": f"{identity.mode:04o}",
    }


def _export(
    mounts: CacheMounts,
    name: str,
    identity: Identity,
    prefix: bytes,
    sink: _Sink,
    on_wait: Callable[[str], None] | None,
) -> Exported:
    told = False

    def wait() -> None:
        nonlocal told
        if not told and on_wait is not None:
            on_wait(identity.id)
        told = True

    while True:
        with mounts.lock(identity.key, on_wait=wait):
            fd = mounts.try_lock(name)
            if fd is not None:
                try:
                    counts = _write(f"{mounts.path}/{name}/data", prefix, sink)
                finally:
                    os.close(fd)
                return Exported(name, identity, *counts)
            if not os.path.isdir(f"{mounts.path}/{name}"):
                raise StoreError(
                    f"the cache mount {identity.id} was removed meanwhile", code="cachemount/gone"
                )
        wait()
        time.sleep(_PAUSE)


def _write(path: str, prefix: bytes, sink: _Sink) -> tuple[int, int, int]:
    """Write one tree; return (entries, bytes of files, what was left out)."""
    root = os.open(path, READ_DIRECTORY)
    entries = size = left_out = 0
    try:
        sink.write(_root_header(root, prefix))
        describer = Describer(root)
        for found in walk(root, layer=False):
            kind = S_IFMT(found.status.st_mode)
            if kind in _LEFT_OUT:
                left_out += 1
                continue
            entries += 1
            entry = found._replace(name=prefix + found.name)
            first = describer.first_name(entry)
            if kind == S_IFREG and first is None:
                size += found.status.st_size
                _write_file(root, entry, describer, sink)
                continue
            seconds, rest = divmod(found.status.st_mtime_ns, NANOSECONDS)
            sink.write(describer.header(entry, seconds, first=first, nanoseconds=rest))
    finally:
        os.close(root)
    return entries, size, left_out


def _write_file(root: int, entry: Entry, describer: Describer, sink: _Sink) -> None:
    seconds, rest = divmod(entry.status.st_mtime_ns, NANOSECONDS)
    file = os.open(entry.path, READ, dir_fd=root)
    try:
        sink.write(describer.header(entry, seconds, file=file, nanoseconds=rest))
        left = entry.status.st_size
        while left:
            data = os.read(file, min(left, CHUNK))
            if not data:
                raise StoreError(f"{os.fsdecode(entry.path)} became shorter while it was read")
            left -= len(data)
            sink.write(data)
    finally:
        os.close(file)
    sink.write(tar_format.padding(entry.status.st_size))


def _root_header(root: int, name: bytes) -> bytes:
    status = os.fstat(root)
    seconds, rest = divmod(status.st_mtime_ns, NANOSECONDS)
    return tar_format.header(
        name,
        tar_format.DIRECTORY,
        status.st_mode & 0o7777,
        status.st_uid,
        status.st_gid,
        mtime=seconds,
        xattrs=xattrs(root),
        nanoseconds=rest,
    )


def _add_file(sink: _Sink, name: bytes, data: bytes) -> None:
    sink.write(tar_format.header(name, tar_format.REGULAR, 0o644, 0, 0, size=len(data)))
    sink.write(data + tar_format.padding(len(data)))


class _Sink:
    """Takes the tar in small pieces; hashes it, and hands it on, in large ones."""

    __slots__ = ("_hash", "_held", "_out", "_parts")

    def __init__(self, out: Output) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._held = 0

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._held += len(data)
        if self._held >= CHUNK:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        self._hash.update(data)
        self._out.write(data)

    def digest(self) -> str:
        """Return the digest of all that was written until now: 64 hexadecimal digits."""
        self.flush()
        return self._hash.hexdigest()
