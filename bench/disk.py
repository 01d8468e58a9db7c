"""A file system for the suite: a new ext4, with a journal, in a file.

What the machine's own file system is like at the moment, how full, how fragmented, with whose writes waiting,
is not what is to be measured; and an ext4 without a journal, as virtual machines often have, makes new files
many times slower for minutes after files were deleted (the kernel passes over inodes that were free
recently).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

from bench.mounts import unmount_below

_MOST = 40 << 30
_SPARED = 4 << 30
"""The file is sparse, and takes no more than it is filled; so much of the disk below is left to others."""


@contextlib.contextmanager
def own(directory: str) -> Iterator[str]:
    """Make a file system in `directory`, mount it, and yield where; nothing of it stays.

    Where no file can be mounted, as inside of many containers, yield `directory` itself. The caller has a
    mount namespace of its own.
    """
    image, point = os.path.join(directory, "disk"), os.path.join(directory, "mounted")
    os.mkdir(point)
    size = min(_MOST, shutil.disk_usage(directory).free - _SPARED)
    if size <= 0 or not _made(image, point, size):
        yield directory
        return
    try:
        yield point
    finally:
        unmount_below(directory)


def trim(directory: str) -> None:
    """Give the blocks of removed files back to the disk below, if `directory` is what own() has mounted."""
    if os.path.ismount(directory):
        _done(["fstrim", directory])


def _made(image: str, point: str, size: int) -> bool:
    with open(image, "wb") as file:
        file.truncate(size)
    # All of it at once: what is left for later would be written in somebody's time.
    make = ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image]
    if not _done(make):
        return False
    # The loop device goes with the mount. It passes the page cache by, which the mounted one has already.
    attached = subprocess.run(
        ["losetup", "--find", "--show", "--direct-io=on", image], capture_output=True, text=True
    )
    if attached.returncode != 0:
        return _done(["mount", "-o", "loop", image, point])
    device = attached.stdout.strip()
    try:
        return _done(["mount", device, point])
    finally:
        _done(["losetup", "--detach", device])  # when it is not mounted any more


def _done(words: list[str]) -> bool:
    try:
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
