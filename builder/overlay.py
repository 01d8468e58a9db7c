"""Overlay mounts as plain values (Documentation/filesystems/overlayfs.rst of the kernel)."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Overlay:
    """Directories united: `lower` are absolute paths, top first; `upper` takes the writes, None for a
    read-only mount.

    `work` must be on upper's file system, and a new one for each mount: a volatile overlay marks it as used,
    and the kernel refuses it from then on.
    """

    lower: tuple[str, ...]
    upper: str | None = None
    work: str | None = None

    def describe(self) -> str:
        """Return the mount in the words of mount(8), for messages."""
        from builder.mounts import OVERLAY_OPTIONS

        words = [f"lowerdir+={path}" for path in self.lower]
        if self.upper is not None:
            words += [f"upperdir={self.upper}", f"workdir={self.work}", "volatile"]
        words += [f"{key}={value}" for key, value in OVERLAY_OPTIONS]
        return "mount -t overlay -o " + ",".join(words)


def detached(overlay: Overlay) -> int:
    """Mount `overlay` nowhere: return an fd that serves as a directory (dir_fd, /proc/self/fd/N) and as a
    mount.

    No process sees it in a mount table, and it is unmounted when the last copy of the fd is closed. It takes
    up to 999 lowers, of which the kernel stacks 500 and the rest is an overlay of its own. Needs root. Raises
    HostError.

    Where the kernel has no overlays (builder/snapshots.py), one without an upper is a directory that is made
    for this process.
    """
    from builder import mounts, snapshots

    other = snapshots.other_than_overlay()
    if other is not None and overlay.upper is None:
        return os.open(other.view(overlay), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return mounts.overlay(overlay.lower, overlay.upper, overlay.work)
