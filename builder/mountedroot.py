"""A root filesystem that COPY and WORKDIR write to: no process runs in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.snapshotroots import Root
    from cache.scratch import Staging


class MountedRoot:
    """The overlay of a staging on what is below it, as a descriptor: mounted nowhere, gone when it is
    closed.
    """

    def __init__(self, lower: tuple[str, ...], staging: Staging) -> None:
        self._lower = lower
        self._staging = staging
        self._fd = -1
        self._root: Root | None = None

    def __enter__(self) -> int:
        from builder import snapshots
        from builder.overlay import Overlay, detached

        overlay = Overlay(self._lower, self._staging.upper, self._staging.work)
        other = snapshots.other_than_overlay() if self._lower else None
        if not self._lower or other is not None:
            self._root = other.open(overlay) if other is not None else None
            path = self._staging.upper if self._root is None else self._root.path
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            self._fd = detached(overlay)
        return self._fd

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        os.close(self._fd)
        if self._root is not None:
            from builder import snapshots

            snapshots.close([self._root], keep=kind is None)
