"""What mmdebstrap leaves in a root filesystem that no image should have, or that differs from run to run.

What mmdebstrap's own `cleanup/reproducible` removes is here again: older ones remove less.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress

from cache.openat2 import open_directory
from cache.upperdir import remove_tree

_EMPTIED = (
    "dev",  # its nodes are the runtime's business; the official images have none
    "proc",
    "sys",
    "tmp",
    "var/tmp",
    "var/cache/apt/archives",
    "var/lib/apt/lists",  # apt makes what it needs in these two
)
_ABSENT = (
    "etc/hostname",  # the host's, copied in for the installation's sake
    "etc/resolv.conf",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/passwords.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/cache/ldconfig/aux-cache",  # holds inode numbers
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/systemd/random-seed",
    "var/log/alternatives.log",
    "var/log/apt/eipp.log.xz",
    "var/log/apt/history.log",
    "var/log/apt/term.log",
    "var/log/bootstrap.log",
    "var/log/dpkg.log",
)
_EMPTY = ("etc/machine-id", "var/log/btmp", "var/log/faillog", "var/log/lastlog", "var/log/wtmp")
"""Files that stay, if they are there, with nothing in them.

machine-id(5): systemd makes an id for an empty one.
"""


def clean(root: str) -> None:
    """Clean the root filesystem `root`, of Debian's packages. No link in it is followed."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _in_parent(fd, "dev", _make_directory)  # mmdebstrap makes it where it may make nodes in it
        for path in _EMPTIED:
            _empty_directory(fd, path)
        for path in _ABSENT:
            _in_parent(fd, path, _unlink)
        for path in _EMPTY:
            _in_parent(fd, path, _truncate)
        os.chmod(root, 0o755)
    finally:
        os.close(fd)


def write_file(root: str, path: str, data: bytes) -> None:
    """Put a file (0644, root's) with `data` in place of `path`; its directory is made if it is missing.

    No link in `root` is followed.
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _in_parent(fd, os.path.dirname(path), _make_directory)
        _in_parent(fd, path, lambda directory, name: _write(directory, name, data))
    finally:
        os.close(fd)


def has_file(root: str, path: str) -> bool:
    """Whether `path` is there, below the root filesystem `root`. No link is followed."""
    found: list[str] = []
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _in_parent(
            fd, path, lambda directory, name: found.append(str(os.lstat(name, dir_fd=directory).st_ino))
        )
    finally:
        os.close(fd)
    return bool(found)


def _empty_directory(root: int, path: str) -> None:
    try:
        directory = open_directory(root, path.encode())
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        for name in os.listdir(directory):
            if stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
                remove_tree(directory, os.fsencode(name))
            else:
                os.unlink(name, dir_fd=directory)
    finally:
        os.close(directory)


def _in_parent(root: int, path: str, act: Callable[[int, str], None]) -> None:
    """Call `act` with a descriptor of the directory of `path`, and the last name in it, if that is there."""
    parent, _, name = path.rpartition("/")
    try:
        directory = open_directory(root, parent.encode() or b".")
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        act(directory, name)
    except FileNotFoundError:
        pass
    finally:
        os.close(directory)


def _unlink(directory: int, name: str) -> None:
    os.unlink(name, dir_fd=directory)


def _truncate(directory: int, name: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
    try:
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _make_directory(directory: int, name: str) -> None:
    if name:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=directory)
            os.chmod(name, 0o755, dir_fd=directory)


def _write(directory: int, name: str, data: bytes) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o644, dir_fd=directory), "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(data)
