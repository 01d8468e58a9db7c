"""A mount namespace for the suite, so that no mount of a peer reaches the machine, or stays."""

from __future__ import annotations

import ctypes
import os

_CLONE_NEWNS, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x00020000, 0x4000, 0x40000, 2


def in_private_mounts() -> None:
    """Give this process a mount namespace of its own, from which no mount comes back. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0 or libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        raise OSError(ctypes.get_errno(), "no mount namespace")


def below(mountinfo: str, directory: str) -> list[str]:
    """Return the mount points below `directory` that /proc/self/mountinfo names, the newest first."""
    points = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines()]
    return [point for point in reversed(points) if point.startswith(directory.rstrip("/") + "/")]


def unmount_below(directory: str) -> None:
    """Detach what peers have left mounted below `directory`: buildah's store mounts a directory on itself."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = below(file.read(), os.path.realpath(directory))
    for point in points:
        libc.umount2(os.fsencode(point), _MNT_DETACH)
