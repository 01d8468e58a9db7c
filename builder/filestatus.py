"""What stat(2) and statx(2) tell of a file, with the owner that is recorded for it. Imported by the launcher.

The kernel fills the structure; only its owner is written over. See the kernel's uapi headers asm/stat.h and
linux/stat.h for where that stands.
"""

from __future__ import annotations

import os
import struct

from builder import linux

CALLS = ("stat", "lstat", "fstat", "newfstatat", "statx")
"""The calls, as far as the machine has them."""

_OWNER_OF_STAT = {"x86_64": 28, "aarch64": 24}
_OWNER_OF_STATX = 20


def of(fd: int, owner: tuple[int, int]) -> bytes:
    """Return the struct stat of what `fd` is open on (O_PATH will do), owned by `owner`."""
    return _owned(linux.newfstatat(fd), _OWNER_OF_STAT[os.uname().machine], owner)


def extended(fd: int, flags: int, mask: int, owner: tuple[int, int]) -> bytes:
    """Return the struct statx of what `fd` is open on, owned by `owner`."""
    return _owned(linux.statx(fd, flags, mask), _OWNER_OF_STATX, owner)


def _owned(data: bytes, place: int, owner: tuple[int, int]) -> bytes:
    return data[:place] + struct.pack("=II", *owner) + data[place + 8 :]
