"""Files below a directory that many machines write to, NFS among its kinds: published whole, never replaced,
and never reached through a symbolic link that somebody else has put there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cache.openat2 import open_directory
from cache.remote import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TEMPORARY = ".new-"
_ABANDONED = 24 * 3600
"""After so many seconds an unfinished file is nobody's any more."""


@contextlib.contextmanager
def reaching(name: str) -> Iterator[None]:
    """Turn what the operating system refuses into a RemoteError that names the cache."""
    try:
        yield
    except OSError as error:
        raise RemoteError(f"{name}: {error.strerror or error}") from None


class SharedDirectory:
    """The directory `path`. Names in it are relative and made by us. Every method may raise OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._root: int | None = None

    def close(self) -> None:
        root, self._root = self._root, None
        if root is not None:
            os.close(root)

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the regular file `name`; None if there is none, or it has more than `limit` bytes."""
        fd = self.open(name)
        if fd is None:
            return None
        with open(fd, "rb") as file:
            data = file.read(limit + 1)
        return None if len(data) > limit else data

    def open(self, name: str) -> int | None:
        """Open the regular file `name` for reading; None if there is none."""
        with self._parent(name) as parent:
            if parent is None:
                return None
            try:
                fd = os.open(os.path.basename(name), _FLAGS, dir_fd=parent)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ELOOP, errno.ESTALE):
                    return None
                raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return fd

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of the regular file `name`, None if there is none."""
        with self._parent(name) as parent:
            if parent is None:
                return None
            try:
                found = os.stat(os.path.basename(name), dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return None
        return found if stat.S_ISREG(found.st_mode) else None

    def add(self, name: str, write: Callable[[int], None]) -> bool:
        """Publish what `write` writes to a descriptor as `name`, whole and on the disk. False if there is one
        already, which stays: then `write` may not have been called."""
        directory, base = os.path.split(name)
        with self._parent(name, make=True) as parent:
            assert parent is not None, directory
            if _exists(base, parent):
                return False
            staged = _TEMPORARY + secrets.token_hex(8)
            fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent)
            try:
                try:
                    write(fd)
                    os.fsync(fd)
                finally:
                    os.close(fd)
                return _publish(staged, base, parent)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(staged, dir_fd=parent)

    def remove(self, name: str) -> bool:
        """Remove the file `name`. False if there is none."""
        with self._parent(name) as parent:
            if parent is None:
                return False
            try:
                os.unlink(os.path.basename(name), dir_fd=parent)
            except FileNotFoundError:
                return False
        return True

    def rename(self, old: str, new: str) -> bool:
        """Rename within one directory. False if `old` is not there any more."""
        with self._parent(old) as parent:
            if parent is None:
                return False
            try:
                os.rename(os.path.basename(old), os.path.basename(new), src_dir_fd=parent, dst_dir_fd=parent)
            except FileNotFoundError:
                return False
        return True

    def touch(self, name: str, *, used: bool = False) -> None:
        """Say that `name` is alive now; with `used`, that it was read: its mtime stays."""
        fd = self.open(name)
        if fd is None:
            return
        try:
            if used:
                found = os.fstat(fd)
                os.utime(fd, ns=(self.clock_ns(), found.st_mtime_ns))
            else:
                os.utime(fd)
        finally:
            os.close(fd)

    def names(self, directory: str) -> list[str]:
        """Return what is published in a directory; [] if there is none. What was abandoned there goes."""
        with self._directory(directory) as fd:
            if fd is None:
                return []
            found = os.listdir(fd)
            for name in found:
                if name.startswith(_TEMPORARY):
                    self._sweep(name, fd)
        return [name for name in found if not name.startswith(".")]

    def clock_ns(self) -> int:
        """Return the time by the clock of whoever keeps the files: that of machines may differ."""
        name = f"clock/{_TEMPORARY}{secrets.token_hex(8)}"
        with self._parent(name, make=True) as parent:
            base = os.path.basename(name)
            fd = os.open(base, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
            try:
                os.write(fd, b"\n")
                return os.fstat(fd).st_mtime_ns
            finally:
                os.close(fd)
                os.unlink(base, dir_fd=parent)

    def _sweep(self, name: str, directory: int) -> None:
        with contextlib.suppress(OSError):
            age = self.clock_ns() - os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns
            if age > _ABANDONED * 10**9:
                os.unlink(name, dir_fd=directory)

    @contextlib.contextmanager
    def _parent(self, name: str, *, make: bool = False) -> Iterator[int | None]:
        with self._directory(os.path.dirname(name), make=make) as fd:
            yield fd

    @contextlib.contextmanager
    def _directory(self, name: str, *, make: bool = False) -> Iterator[int | None]:
        root = self._open_root(make)
        fd = None if root is None else self._find(root, name)
        if fd is None and make and root is not None:
            _make(root, name)
            fd = open_directory(root, os.fsencode(name))
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)

    def _find(self, root: int, name: str) -> int | None:
        try:
            return open_directory(root, os.fsencode(name))
        except FileNotFoundError:
            return None

    def _open_root(self, make: bool) -> int | None:
        if self._root is None:
            if make:
                os.makedirs(self.path, exist_ok=True)
            try:
                self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
        return self._root


def _make(root: int, name: str) -> None:
    """Make the directories of `name`, one below the other; nobody's link is followed."""
    at = os.dup(root)
    try:
        for part in name.split("/"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=at)
            below = open_directory(at, os.fsencode(part))
            os.close(at)
            at = below
    finally:
        os.close(at)


def _exists(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _publish(staged: str, name: str, directory: int) -> bool:
    """Give a file its name unless that is taken. link(2) is what NFS does in one step, and refuses a name
    that is taken; a file system without hard links gets a rename, of which the later one of two wins."""
    try:
        os.link(staged, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        os.rename(staged, name, src_dir_fd=directory, dst_dir_fd=directory)
    return True
