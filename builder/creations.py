"""What a process makes that takes itself for another user than root: it is that user's. Imported by the
launcher.

The supervisor sees a call before the kernel carries it out. What comes of it is seen at the next call of
anybody. At the next call of the same thread the file is there, or it will not be.
"""

from __future__ import annotations

import os
import stat

from builder.caller import OWN_FILES
from cache import ownership

CALLS = ("open", "openat", "openat2", "creat", "mkdir", "mkdirat", "symlink", "symlinkat", "mknod", "mknodat")


_MOST_WAITING = 64
"""Threads that end before they have made what they were about to make are not heard of again."""


class Creations:
    """The files that may have been made since the last look: an open directory, a name, whose it is to be."""

    def __init__(self) -> None:
        self._pending: list[tuple[int, str, tuple[int, int], int]] = []

    def expect(self, parent: int, name: str, owner: tuple[int, int], thread: int) -> None:
        """Note that `name` in the open directory, which becomes ours, is about to be made by `thread`, unless
        it is there.
        """
        if not name or _exists(parent, name):
            os.close(parent)
            return
        self._pending.append((parent, name, owner, thread))

    def settle(self, thread: int) -> list[tuple[int, tuple[int, int]]]:
        """Return what was made: open (O_PATH), for the caller to close, and whose it is. What is not there is
        waited for no more if `thread` was to make it, who does something else now, or too many are waited
        for.
        """
        made: list[tuple[int, tuple[int, int]]] = []
        if not self._pending:
            return made
        waiting = []
        for entry in self._pending:
            parent, name, owner, maker = entry
            try:
                fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            except OSError:
                if maker != thread:
                    waiting.append(entry)
                else:
                    os.close(parent)
                continue
            os.close(parent)
            if _is_ours(fd):
                made.append((fd, owner))
            else:
                os.close(fd)
        for entry in waiting[:-_MOST_WAITING]:
            os.close(entry[0])
        self._pending = waiting[-_MOST_WAITING:]
        return made


def _exists(parent: int, name: str) -> bool:
    try:
        os.lstat(name, dir_fd=parent)
    except OSError:
        return False
    return True


def _is_ours(fd: int) -> bool:
    """Whether nothing is recorded of it yet: it may have been given to somebody meanwhile."""
    status = os.fstat(fd)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return True
    return ownership.recorded(f"{OWN_FILES}/{fd}", status) == (status.st_uid, status.st_gid)
