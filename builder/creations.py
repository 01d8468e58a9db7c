"""What a process makes that takes itself for another user than root: it is that user's. Imported by the
launcher.

The supervisor sees a call before the kernel carries it out. What comes of it is seen at the next call of
anybody: by then the file is there, or it will not be.
"""

from __future__ import annotations

import os
import stat

from cache import ownership

CALLS = ("open", "openat", "openat2", "creat", "mkdir", "mkdirat", "symlink", "symlinkat", "mknod", "mknodat")


class Creations:
    """The files that may have been made since the last look: an open directory, a name, whose it is to be."""

    def __init__(self) -> None:
        self._pending: list[tuple[int, str, tuple[int, int]]] = []

    def expect(self, parent: int, name: str, owner: tuple[int, int]) -> None:
        """Note that `name` in the open directory, which becomes ours, is about to be made, unless it is
        there.
        """
        if not name or _exists(parent, name):
            os.close(parent)
            return
        self._pending.append((parent, name, owner))

    def settle(self) -> list[tuple[int, tuple[int, int]]]:
        """Return what was made: open (O_PATH), for the caller to close, and whose it is."""
        made: list[tuple[int, tuple[int, int]]] = []
        for parent, name, owner in self._pending:
            try:
                fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            except OSError:
                continue
            finally:
                os.close(parent)
            if _is_ours(fd):
                made.append((fd, owner))
            else:
                os.close(fd)
        self._pending.clear()
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
    return ownership.recorded(f"/proc/self/fd/{fd}", status) == (status.st_uid, status.st_gid)
