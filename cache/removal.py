"""Removal of whole trees: of any depth, with any names and modes, never through a symlink or into another
mount."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str) -> None:
    """Remove `path` and all below it; a missing one is removed already.

    One descriptor is open at a time, however deep the tree is: the way up is "..", and is checked. Raises
    OSError for what cannot be removed (an immutable file, a mount point), after the rest is gone as far as it
    was met before.
    """
    parent, name = os.path.split(path)
    try:
        fd = os.open(parent or ".", _OPEN)
    except FileNotFoundError:
        return
    os.close(_remove(fd, name))


def _remove(fd: int, name: str) -> int:
    """Remove `name` in the directory `fd`. Owns `fd`, and returns a descriptor of the same directory."""
    pending: list[list[str]] = [
        [name]
    ]  # per level: the directories still to go; the last one of each is entered
    entered: list[os.stat_result] = []  # the directories above the one that is open
    device = os.fstat(fd).st_dev
    try:
        while True:
            if pending[-1]:
                child = _enter(fd, pending[-1][-1])
                if child is None:
                    pending[-1].pop()
                    continue
                entered.append(os.fstat(fd))
                os.close(fd)
                fd = child
                if os.fstat(fd).st_dev != device:
                    raise OSError(errno.EBUSY, "a mount point is in the way", pending[-1][-1])
                pending.append(_empty(fd))
                continue
            pending.pop()
            if not pending:
                return fd
            above = _above(fd, entered.pop())
            os.close(fd)
            fd = above
            _unless_gone(os.rmdir, fd, pending[-1].pop())
    except BaseException:
        os.close(fd)
        raise


def _enter(fd: int, name: str) -> int | None:
    """Open the directory `name`; None if it is not there, or was no directory and is unlinked now."""
    try:
        child = os.open(name, _OPEN, dir_fd=fd)
    except FileNotFoundError:
        return None
    except PermissionError:  # mode 0, and no CAP_DAC_OVERRIDE: a rootless store. Known to be a directory
        os.chmod(name, 0o700, dir_fd=fd)
        child = os.open(name, _OPEN, dir_fd=fd)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        _unless_gone(os.unlink, fd, name)
        return None
    try:
        if os.fstat(child).st_mode & 0o700 != 0o700:
            os.fchmod(child, 0o700)
    except BaseException:
        os.close(child)
        raise
    return child


def _above(fd: int, expected: os.stat_result) -> int:
    """Open the directory above `fd`, which must be the one that we came from."""
    parent = os.open("..", _OPEN, dir_fd=fd)
    now = os.fstat(parent)
    if (now.st_ino, now.st_dev) != (expected.st_ino, expected.st_dev):
        os.close(parent)
        raise OSError(errno.ESTALE, "the tree was moved while it was removed")
    return parent


def _empty(fd: int) -> list[str]:
    """Unlink all in the directory `fd` that is no directory, and return the names of the others."""
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, directory in found:
        if not directory:
            _unless_gone(os.unlink, fd, name)
    return [name for name, directory in found if directory]


def _unless_gone(remove: Callable[..., None], fd: int, name: str) -> None:
    """Call os.unlink or os.rmdir: what is gone is gone, two sweeps may meet."""
    with contextlib.suppress(FileNotFoundError):
        remove(name, dir_fd=fd)
