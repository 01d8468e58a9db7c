"""Sparse files: what of them is no data, and costs nothing until somebody copies, packs or hashes them.

A layer is a plain tar, in which each byte of a hole is one. A few bytes that make terabytes are refused
where they come in: from a tar with GNU's sparse files, and from a step that leaves such a file.
"""

from __future__ import annotations

import errno
import os

from cache.errors import StoreFull

MOST = 1 << 40
"""Bytes of holes that a layer may have, however large the disk is."""
NOTABLE = 1 << 30
"""Bytes of holes that are not worth a look at the disk."""


class Holes:
    """Adds up the holes of a layer's files, which must be fewer than the disk of `directory` (open) has room
    for.
    """

    __slots__ = ("_directory", "_total")

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._total = 0

    def add(self, size: int, path: bytes) -> None:
        """Count `size` bytes of the file `path`. Raises StoreFull if they are too many."""
        self._total += size
        if self._total < NOTABLE:
            return
        room = _room(self._directory)
        if self._total <= min(room, MOST):
            return
        shown = os.fsdecode(path[:200])
        limit = f"a layer may have {_shown(MOST)}"
        if room < MOST:
            limit = f"the store's disk has room for {_shown(room)}"
        raise StoreFull(
            f"sparse files, of which /{shown} is one, have {_shown(self._total)} of holes, and {limit}",
            hint="a layer holds each byte of a file, and whoever copies it writes them: make the file "
            "smaller, or remove it in the step that makes it",
            code="layer/sparse",
        )

    def add_file(self, file: int, status: os.stat_result, path: bytes) -> None:
        """Count the holes of an open file. Raises StoreFull."""
        if status.st_size - status.st_blocks * 512 >= NOTABLE:  # or a file system that compresses
            self.add(_holes(file, status.st_size), path)


def expect(directory: int, size: int, path: bytes) -> None:
    """Raise StoreFull if the disk of `directory` (open) has no room for a file of `size` bytes."""
    if size >= NOTABLE and size > (room := _room(directory)):
        raise StoreFull(
            f"{os.fsdecode(path[:200])!r} has {_shown(size)}, and the store's disk has room for "
            f"{_shown(room)}"
        )


def _room(directory: int) -> int:
    status = os.fstatvfs(directory)
    return (status.f_bfree if os.geteuid() == 0 else status.f_bavail) * status.f_frsize


def _holes(file: int, size: int) -> int:
    """Return how many bytes of the file are in holes (lseek(2))."""
    at = total = 0
    try:
        while at < size:
            hole = os.lseek(file, at, os.SEEK_HOLE)
            try:
                at = os.lseek(file, hole, os.SEEK_DATA) if hole < size else size
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                at = size  # a hole to the end
            total += at - hole
    finally:
        os.lseek(file, 0, os.SEEK_SET)
    return total


def _shown(size: int) -> str:
    """Return a size for people, in decimal units."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    value = float(size)
    while value >= 1000 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.3g} {units[0]}"
