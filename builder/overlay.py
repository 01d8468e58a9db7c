"""Overlay mounts as plain values (Documentation/filesystems/overlayfs.rst of the kernel)."""

from __future__ import annotations

from dataclasses import dataclass

MAX_LOWERS = 500
"""The kernel's OVL_MAX_STACK."""


OPTIONS = ("redirect_dir=nofollow", "index=off", "metacopy=off", "xino=off")
"""Each layer must be whole by itself: no redirects or metadata-only copies into the layers below it. An index and xino
serve NFS export and persistent inode numbers, which a build does not need. `volatile` (kernel 5.10) leaves out the
sync of the whole upper file system that each unmount would cost; the store syncs once a build."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """Directories united: `lower` are absolute paths, top first; `upper` takes the writes, None for a read-only mount.

    `work` must be on upper's file system and must be a new one for each mount: a volatile overlay marks it as used, and
    the kernel then refuses it.
    """

    lower: tuple[str, ...]
    upper: str | None = None
    work: str | None = None

    def describe(self) -> str:
        """Return the mount in the words of mount(8), for messages and --dry-run."""
        words = [f"lowerdir+={path}" for path in self.lower]
        if self.upper is not None:
            words += [f"upperdir={self.upper}", f"workdir={self.work}"]
        words += OPTIONS if self.upper is None else (*OPTIONS, "volatile")
        return "mount -t overlay -o " + ",".join(words)
