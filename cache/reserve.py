"""A file that holds a little room for the day on which the disk is full: to say what can go, a prune needs
its database, and that needs two files beside it (SQLite's WAL and its index) and some space."""

from __future__ import annotations

import contextlib
import os

from cache.disk import write_new

SIZE = 192 * 1024
"""Bytes: the WAL's index takes 32 KiB, the rest is for what a prune writes."""
LOW = 1 << 20
"""With less than as many bytes left, or a handful of inodes, a disk counts as full."""
_NAME = "/reserve"


def keep(root: str) -> None:
    """Make the reserve of the store at `root`, if it is not there. Raises OSError."""
    path = root + _NAME
    if not os.path.exists(path):
        try:
            write_new(
                path, os.urandom(SIZE), mode=0o600
            )  # random: a file system that compresses must not save it
        except FileExistsError:
            return
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise


def give_back(root: str) -> bool:
    """Give the reserve back to the disk, if that is full. Returns whether it was there to be given."""
    if not is_full(root):
        return False
    try:
        os.unlink(root + _NAME)
    except FileNotFoundError:
        return False
    return True


def is_full(path: str) -> bool:
    """True if the file system of `path` has almost no room or inodes left for us. False if it does not
    say."""
    try:
        status = os.statvfs(path)
    except OSError:
        return False
    blocks = status.f_bfree if os.geteuid() == 0 else status.f_bavail
    return blocks * status.f_frsize < LOW or (status.f_files > 0 and status.f_favail < 8)
