"""Marks of opaque directories that hide nothing.

The kernel gives one to a directory that a step has made elsewhere and moved to where it is
(fs/overlayfs/dir.c, ovl_rename), for in an overlay that is redirected there might be something below. In a
layer it says nothing, and a root filesystem that is no overlay knows nothing of it: the same step would have
another layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache.merged import Merged

if TYPE_CHECKING:
    from collections.abc import Callable


class Below:
    """What is below an upperdir. Its directories are asked about in the order of `cache.upperdir.walk`."""

    def __init__(self, lowerdirs: Callable[[], tuple[str, ...]]) -> None:
        """`lowerdirs`: returns them, the top first; called if there is any mark at all."""
        self._lowerdirs = lowerdirs
        self._merged: Merged | None = None
        self._hidden = b""

    def has(self, path: bytes) -> bool:
        """Return whether the mark of the opaque directory `path` hides anything. Raises OSError."""
        if self._hidden and path.startswith(self._hidden + b"/"):
            return False  # a directory above does it
        if self._merged is None:
            self._merged = Merged(self._lowerdirs())
        if self._merged.lookup(path) is None:
            return False
        self._hidden = path
        return True

    def close(self) -> None:
        if self._merged is not None:
            self._merged.close()
            self._merged = None
