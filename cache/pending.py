"""What the directories of a layer get when nothing changes their times any more: remembered by path, beyond
some of it in a file.

A layer of a few kilobytes can have millions of directories, with names of kilobytes.
"""

from __future__ import annotations

import marshal
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from cache.tar_format import Xattrs

MOST = 32 << 20
"""Bytes that are held in memory, about."""
_EACH = 400


class Attributes(NamedTuple):
    """What an entry says of itself beside its content; `mtime` in ns since 1970."""

    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: Xattrs


class Pending:
    """Attributes by path, of which the last ones count. `beside`: a path next to which there may be a
    temporary file without a name.
    """

    def __init__(self, beside: str, most: int = MOST) -> None:
        self._directory = os.path.dirname(os.path.abspath(beside))
        self._most = most
        self._held: dict[bytes, Attributes] = {}
        self._size = 0
        self._file: IO[bytes] | None = None

    def __setitem__(self, path: bytes, attributes: Attributes) -> None:
        """Remember them. Raises OSError."""
        self._held[path] = attributes
        self._size += len(path) + _EACH
        if self._size > self._most:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            import tempfile

            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - closed with this
        marshal.dump([(path, tuple(each)) for path, each in self._held.items()], self._file)
        self._held, self._size = {}, 0

    def __iter__(self) -> Iterator[tuple[bytes, Attributes]]:
        """Yield them, and forget them: those of a path in the order in which they came."""
        if self._file is not None:
            held, self._held = self._held, {}
            end = self._file.tell()
            self._file.seek(0)
            while self._file.tell() < end:
                for path, values in marshal.load(self._file):
                    yield path, Attributes(*values)
            self.close()
            self._held = held
        # Those inside first: they can be reached whatever is above.
        for path in sorted(self._held, reverse=True):
            yield path, self._held[path]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
