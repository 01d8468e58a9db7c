"""type=tar: the image's root filesystem as one tar, as `docker export` of a container of it would be."""

from __future__ import annotations

import os
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG
from typing import TYPE_CHECKING

from builder.exporters.base import Output, directory_of, lowerdirs
from builder.exporters.destination import open_output
from builder.exporters.merged import Entry, opened, walk
from builder.exporters.meter import Meter, Meters
from cache import ownership, tar_format
from cache.compression import compressed
from cache.disk import storing
from cache.errors import StoreCorrupt
from cache.upperdir import READ, READ_DIRECTORY, xattrs

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.exporters.base import Group
    from builder.exporters.destination import Stream
    from builder.exporters.output_spec import OutputSpec
    from cache.store import Store

_CHUNK = 1 << 18
_NANOSECONDS = 1_000_000_000
_FLAGS = {
    S_IFREG: tar_format.REGULAR,
    S_IFDIR: tar_format.DIRECTORY,
    S_IFLNK: tar_format.SYMLINK,
    S_IFIFO: tar_format.FIFO,
    S_IFCHR: tar_format.CHARACTER,
    S_IFBLK: tar_format.BLOCK_DEVICE,
}


def export(group: Group, spec: OutputSpec, store: Store, emit: Emit) -> Output:
    """Write the tar. Its entries are as in a layer: sorted, whole seconds, hard links to the first path. For
    several platforms, each is in a directory of its own.
    """
    total = sum(layer.size for source in group for layer in source.layers)
    with (
        open_output(spec.dest) as stream,
        compressed(stream, spec.compression) as sink,
        Meters(emit).transfer("rootfs", "writing the root filesystem", total, sink) as meter,
    ):
        for source in group:
            prefix = f"{directory_of(source)}/".encode() if len(group) > 1 else b""
            writer = _Writer(meter, stream if spec.compression.kind == "none" else None, prefix)
            if prefix:
                meter.write(tar_format.header(prefix, tar_format.DIRECTORY, 0o755, 0, 0, mtime=0))
            with opened(lowerdirs(store, source)) as roots, storing("reading layers"):
                for entry in walk(roots):
                    writer.add(entry)
        meter.write(tar_format.END)
    return Output(spec, stream.size)


class _Writer:
    """Writes entries, their names after `prefix`, to `meter`; long files straight to `stream`, where nothing
    is between the two.
    """

    def __init__(self, meter: Meter, stream: Stream | None, prefix: bytes) -> None:
        self._meter = meter
        self._stream = stream
        self._prefix = prefix
        self._first: dict[tuple[int, int], bytes] = {}

    def add(self, entry: Entry) -> None:
        if self._prefix:
            entry = entry._replace(name=self._prefix + entry.name)
        status = entry.status
        kind = S_IFMT(status.st_mode)
        flag = _FLAGS.get(kind)
        if flag is None:
            return  # a socket
        if status.st_nlink > 1 and kind != S_IFDIR:
            first = self._first.setdefault((entry.layer, status.st_ino), entry.name)
            if first is not entry.name:
                self._meter.write(_header(entry, tar_format.HARD_LINK, link=first))
                return
        if kind == S_IFREG:
            self._regular(entry)
        elif kind == S_IFDIR:
            directory = os.open(entry.path, READ_DIRECTORY, dir_fd=entry.root)
            try:
                self._meter.write(_header(entry, flag, attributes=xattrs(directory)))
            finally:
                os.close(directory)
        elif kind == S_IFLNK:
            self._meter.write(_header(entry, flag, link=os.readlink(entry.path, dir_fd=entry.root)))
        else:
            number = status.st_rdev
            device = None if kind == S_IFIFO else (os.major(number), os.minor(number))
            self._meter.write(_header(entry, flag, device=device))

    def _regular(self, entry: Entry) -> None:
        size = entry.status.st_size
        file = os.open(entry.path, READ, dir_fd=entry.root)
        try:
            self._meter.write(_header(entry, tar_format.REGULAR, size=size, attributes=xattrs(file)))
            if self._stream is not None and size > _CHUNK:
                self._stream.copy(file, size)
                self._meter.count(size)
            else:
                self._copy(entry, file, size)
        finally:
            os.close(file)
        self._meter.write(tar_format.padding(size))

    def _copy(self, entry: Entry, file: int, size: int) -> None:
        left = size
        while left:
            data = os.read(file, min(left, _CHUNK))
            if not data:
                raise StoreCorrupt(f"/{os.fsdecode(entry.path)} became shorter while it was read")
            self._meter.write(data)
            left -= len(data)


def _header(
    entry: Entry,
    flag: bytes,
    *,
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] | None = None,
    attributes: tar_format.Xattrs = (),
) -> bytes:
    status = entry.status
    return tar_format.header(
        entry.name,
        flag,
        status.st_mode & 0o7777,
        *ownership.owner_at(entry.root, entry.path, status),
        size=size,
        mtime=status.st_mtime_ns // _NANOSECONDS,
        link=link,
        device=device,
        xattrs=attributes,
    )
