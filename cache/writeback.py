"""Writing to the disk begins as soon as there is much to write, so that the sync at the end of a build finds
little: the disk works while the processor measures, compresses, and runs the next step.

It makes nothing safe by itself: what outlasts a power cut is what `Store.sync` has waited for.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.disk import syncfs

if TYPE_CHECKING:
    import threading

_BYTES, _FILES = 16 << 20, 2000
"""What is worth it: with less, a sync is over before a thread has begun."""


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on a disk: bytes and inodes. ext4 and others count what they hold back still."""

    size: int
    files: int

    @classmethod
    def of(cls, path: str) -> Room:
        """Return what is free on the disk of `path`; nothing if it does not say."""
        with contextlib.suppress(OSError):
            found = os.statvfs(path)
            return cls(found.f_bfree * found.f_frsize, found.f_ffree)
        return cls(0, 0)

    def is_much_more_than(self, other: Room) -> bool:
        """Return whether so much has been written meanwhile that writing it out is worth a thread."""
        return self.size - other.size >= _BYTES or self.files - other.files >= _FILES


class WriteBack:
    """Writes out the file system of `path`. For several threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def begin(self) -> None:
        """Begin to write out what is there now, unless that is going on."""
        import threading

        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._run, name="write-back", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until it is done. Raises OSError if anything could not be written since the last time: the
        kernel tells that once.
        """
        if self._thread is not None:
            self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            syncfs(self._path)
        except OSError as error:
            self._error = error
