"""Overlay upperdir <-> layer tar, where the tar is a pure function of what the upperdir holds.

Entries come in the order of cache/upperdir.py, headers are those of cache/tar_format.py: numeric ids, whole
seconds, hard links to the first path in order, xattrs as SCHILY.xattr records. A deleted name is an empty
file `.wh.NAME`; a directory that hides what is below it holds `.wh..wh..opq`, which comes first in it, so
that readers that delete as they go are right too. Both have fixed attributes: the kernel makes the whiteouts
of a mount of one inode, whatever its time. Sockets are left out, as everywhere. The upperdir's own
attributes are no part of it: it stands for a root that the layers share.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from stat import S_IFDIR, S_IFMT, S_IFREG, S_IFSOCK
from typing import TYPE_CHECKING, Protocol

from cache import tar_format
from cache.errors import StoreError
from cache.holes import Holes
from cache.idmap import overlay_attribute
from cache.oci.digest import DiffID
from cache.tar_entry import Describer, timeless
from cache.upperdir import READ, READ_DIRECTORY, Entry, walk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cache.idlemarks import Below

CHUNK = 256 * 1024
"""Bytes that are read, hashed and written at once: fits into a core's second-level cache."""

NANOSECONDS = 1_000_000_000


class Output(Protocol):
    """Where a tar goes: a buffered binary file, or anything like it that takes all bytes of each call."""

    def write(self, data: bytes, /) -> object: ...


class Input(Protocol):
    """Where a tar comes from: a file opened for reading in binary, or anything like it."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Changeset:
    """A layer tar in numbers: its digest, its bytes, its entries, its newest mtime (s since 1970, or 0), and
    its signature (b"" where nobody has worked it out): a digest of all that the tar says but for mtimes, and
    for the data of files that have more than `CHUNK` bytes. What has the same result has the same signature.
    """

    diff_id: DiffID
    size: int
    entries: int
    newest: int
    signature: bytes = field(default=b"", compare=False)


def measure(upper: str, *, clamp: int | None, below: Below | None = None) -> Changeset:
    """Return what the tar of the upperdir `upper` would be, and make the directory equal to that tar.

    mtimes become whole seconds, and none stays later than `clamp` (s since 1970, None for no limit);
    sockets are removed, and so are marks of opaque directories that hide nothing `below`. Raises FormatError
    for what no layer can hold, StoreError if the directory changes meanwhile.
    """
    return _run(upper, None, clamp, normalise=True, below=below)


def write_tar(upper: str, out: Output) -> Changeset:
    """Write the tar of the upperdir `upper` to `out`; change nothing. Errors as of `measure`, and `out`'s."""
    return _run(upper, out, None, normalise=False)


def unpack(tar: Input | Iterable[bytes], target: str, *, lowerdirs: tuple[str, ...] = ()) -> Changeset:
    """Turn an uncompressed layer tar into an upperdir in the empty `target`: see cache/unpack.py."""
    from cache.unpack import unpack as run

    return run(tar, target, lowerdirs)


def _run(
    upper: str, out: Output | None, clamp: int | None, *, normalise: bool, below: Below | None = None
) -> Changeset:
    root = os.open(upper, READ_DIRECTORY)
    try:
        writer = _Writer(root, _Sink(out), clamp, normalise, below)
        for entry in walk(root):
            writer.add(entry)
        return writer.finish()
    finally:
        os.close(root)


class _Sink:
    """Takes the tar in small pieces; hashes it, and hands it on, in large ones."""

    __slots__ = ("_hash", "_held", "_out", "_parts", "size")

    def __init__(self, out: Output | None) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._held = 0
        self.size = 0

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._held += len(data)
        if self._held >= CHUNK:
            self.flush()

    def flush(self) -> None:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        self.size += len(data)
        self._hash.update(data)
        if self._out is not None:
            self._out.write(data)

    def finish(self) -> DiffID:
        self.write(tar_format.END)
        self.flush()
        return DiffID("sha256:" + self._hash.hexdigest())


class _Writer:
    """Writes entries into a sink; with `normalise`, makes the disk say what the tar says."""

    __slots__ = (
        "_below", "_clamp", "_describer", "_holes", "_normalise", "_root", "_signature", "_sink", "entries",
        "newest",
    )  # fmt: skip

    def __init__(
        self, root: int, sink: _Sink, clamp: int | None, normalise: bool, below: Below | None
    ) -> None:
        self._below = below
        self._root = root
        self._sink = sink
        self._clamp = clamp
        self._normalise = normalise
        self._describer = Describer(root)
        self._holes = Holes(root)
        self._signature = None
        if normalise:
            from blake3 import blake3

            self._signature = blake3()
        self.entries = 0
        self.newest = 0

    def finish(self) -> Changeset:
        diff_id = self._sink.finish()
        signature = b"" if self._signature is None else self._signature.digest()
        return Changeset(diff_id, self._sink.size, self.entries, self.newest, signature)

    def add(self, entry: Entry) -> None:
        status = entry.status
        kind = S_IFMT(status.st_mode)
        if kind == S_IFSOCK:
            if self._normalise:
                self._remove(entry.path)
            return
        self.entries += 1
        if entry.whiteout:
            self._header(entry, 0)
            return
        mtime = self._time(status)
        changed = self._normalise and mtime * NANOSECONDS != status.st_mtime_ns
        first = self._describer.first_name(entry)
        if first is None and kind == S_IFREG:
            self._regular(entry, mtime, changed)
            return
        self._header(entry, mtime, first=first)
        if kind == S_IFDIR and (marker := self._describer.opaque_marker(entry)):
            if self._below is not None and not self._below.has(entry.path):
                os.removexattr(entry.directory, overlay_attribute("opaque"))
            else:
                self.entries += 1
                self._sign(marker)
                self._sink.write(marker)
        if changed:
            times = (mtime * NANOSECONDS, mtime * NANOSECONDS)
            os.utime(entry.path, ns=times, dir_fd=self._root, follow_symlinks=False)

    def _header(self, entry: Entry, mtime: int, *, first: bytes | None = None, file: int = -1) -> None:
        header = self._describer.header(entry, mtime, first=first, file=file)
        if self._signature is not None:
            plain = len(header) == tar_format.BLOCK
            self._sign(
                timeless(header if plain else self._describer.header(entry, 0, first=first, file=file))
            )
        self._sink.write(header)

    def _sign(self, data: bytes) -> None:
        if self._signature is not None:
            self._signature.update(data)

    def _time(self, status: os.stat_result) -> int:
        mtime = status.st_mtime_ns // NANOSECONDS
        if self._clamp is not None and mtime > self._clamp:
            mtime = self._clamp
        if mtime > self.newest:
            self.newest = mtime
        return mtime

    def _regular(self, entry: Entry, mtime: int, changed: bool) -> None:
        size = entry.status.st_size
        sink = self._sink
        file = os.open(entry.path, READ, dir_fd=self._root)
        try:
            if self._normalise:
                self._holes.add_file(file, entry.status, entry.path)
            self._header(entry, mtime, file=file)
            left = size
            while left:
                data = os.read(file, left if left < CHUNK else CHUNK)
                if not data:
                    raise StoreError(f"/{os.fsdecode(entry.path)} became shorter while it was read")
                left -= len(data)
                sink.write(data)
                if size <= CHUNK:
                    self._sign(data)
            if size % tar_format.BLOCK:
                sink.write(tar_format.padding(size))
            if changed:
                os.utime(file, ns=(mtime * NANOSECONDS, mtime * NANOSECONDS))
        finally:
            os.close(file)

    def _remove(self, path: bytes) -> None:
        """Remove a socket, without a trace in the mtime of its directory, which is normalised by now."""
        parent = path.rpartition(b"/")[0] or b"."
        times = os.lstat(parent, dir_fd=self._root).st_mtime_ns
        os.unlink(path, dir_fd=self._root)
        os.utime(parent, ns=(times, times), dir_fd=self._root, follow_symlinks=False)
