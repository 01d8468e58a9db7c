"""Root filesystems that are no overlay of the kernel's: a copy of everything, or a mount of
fuse-overlayfs.
"""

from __future__ import annotations

import os
import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from builder import linux
from cache.removal import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.overlay import Overlay
    from cache.scratch import Scratch, Staging

_STATX_BTIME = 0x800
_MASK_AT, _BTIME_AT = 0, 80  # in struct statx


class Root(ABC):
    """A directory that shows an overlay. What is written there is in the overlay's upper when it is closed;
    `written` is the directory in which something written is found by its path meanwhile.
    """

    path: str
    written: str

    def __init__(self, overlay: Overlay, scratch: Scratch, forget: Callable[[Root], None]) -> None:
        self._overlay = overlay
        self._scratch = scratch
        self._forget = forget
        self._owned: list[Staging] = [scratch.directory("root")]
        self._closed = False
        self.path = self._owned[0].path + "/root"
        try:
            os.mkdir(self.path, 0o755)
            os.chmod(self.path, 0o755)
            self._fill()
        except BaseException:
            self._discard()
            raise

    def own(self, staging: Staging) -> None:
        """Discard `staging`, too, when this is closed."""
        self._owned.append(staging)

    def close(self, *, keep: bool) -> None:
        """Let go of it; `keep` what was written. Raises OSError, HostError."""
        if self._closed:
            return
        self._closed = True
        try:
            self._finish(keep=keep)
        finally:
            self._forget(self)
            self._discard()

    def _discard(self) -> None:
        for staging in reversed(self._owned):
            staging.discard()

    @abstractmethod
    def _fill(self) -> None:
        """Make what is shown."""

    @abstractmethod
    def _finish(self, *, keep: bool) -> None:
        """Bring what was written into the upper, if it is to be kept."""


class CopiedRoot(Root):
    """A copy (`cache.fullcopy`)."""

    def _fill(self) -> None:
        from cache.fullcopy import FullCopy

        self.written = self.path
        self._copy = FullCopy(self.path, _birth)
        upper = self._overlay.upper
        above = upper if upper is not None and os.listdir(upper) else None
        self._copy.fill(self._overlay.lower, above, links=upper is None)

    def _finish(self, *, keep: bool) -> None:
        upper = self._overlay.upper
        if upper is None or not keep:
            return
        for name in os.listdir(upper):
            path = f"{upper}/{name}"
            if os.path.isdir(path) and not os.path.islink(path):
                remove_tree(path)
            else:
                os.unlink(path)
        self._copy.changeset(upper)


class FuseRoot(Root):
    """A mount of fuse-overlayfs in this mount namespace, which is this process's own."""

    def _fill(self) -> None:
        from builder.fuseoverlay import FuseOverlay

        upper = self._overlay.upper
        self.written = upper or self.path
        work = self._owned[0].path + "/work"
        os.mkdir(work, 0o700)
        self._mounted = FuseOverlay(self._overlay.lower, upper, work, self.path)

    def _finish(self, *, keep: bool) -> None:
        self._mounted.close()
        if keep and self._overlay.upper is not None:
            from cache.fusemarks import normalise

            normalise(self._overlay.upper, self._overlay.lower)


def _birth(fd: int) -> int:
    """Return when an open file was made (ns), 0 where the file system does not say."""
    found = linux.statx(fd, 0, _STATX_BTIME)
    (mask,) = struct.unpack_from("I", found, _MASK_AT)
    if not mask & _STATX_BTIME:
        return 0
    seconds, nanoseconds = struct.unpack_from("qI", found, _BTIME_AT)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
