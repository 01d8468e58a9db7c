"""tmp/: everything that is unfinished, each piece held by the flock of its owner, and swept once that is
gone."""

from __future__ import annotations

import os
from fcntl import LOCK_EX, flock
from typing import TYPE_CHECKING

from cache.disk import storing
from cache.locks import Lock, file_name, is_at, try_flock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """A private directory of tmp/ with an overlay's `upper` and `work` in it. Enter it, or call `discard`
    when done.

    What was not published is removed with it. `upper` is 0755 root:root (the caller's ids, rootless): the
    mode that the root directory of a layer has until the step changes it.
    """

    __slots__ = ("_fd", "path", "upper", "work")

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.upper = path + "/diff"
        self.work = path + "/work"
        self._fd = fd

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def fileno(self) -> int:
        """Return the descriptor whose flock says that the owner lives: a child that inherits it owns, too."""
        return self._fd

    def discard(self) -> None:
        """Remove what is left of the directory. Calling it again does nothing."""
        fd, self._fd = self._fd, -1
        if fd == -1:
            return
        from cache.removal import remove_tree

        try:
            with storing("removing a staging directory"):
                remove_tree(self.path)
        finally:
            os.close(fd)


class Scratch:
    """The directory tmp/ of a store."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def stage(self) -> Staging:
        """Make a staging directory. Raises StoreFull, StoreError."""
        with storing("staging"):
            path, fd = self._directory("stage")
            staging = Staging(path, fd)
            try:
                os.mkdir(staging.upper)
                os.chmod(staging.upper, 0o755)  # whatever the umask is
                os.mkdir(staging.work, 0o700)
            except BaseException:
                staging.discard()
                raise
        return staging

    def file(self) -> tuple[int, str]:
        """Make an empty file that is not swept while the descriptor is open, and return (descriptor,
        path)."""
        with storing("staging a file"):
            while True:
                path = f"{self.path}/file-{_random()}"
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
                if try_flock(fd) and is_at(fd, path):
                    return fd, path
                os.close(fd)  # a sweep was quicker than we were

    def lock(
        self,
        name: str,
        *,
        shared: bool = False,
        blocking: bool = True,
        on_wait: Callable[[], None] | None = None,
    ) -> Lock:
        """Return the lock `name` (a ChainID, a step key, …), to be entered. See `cache.locks.Lock`."""
        return Lock(f"{self.path}/{file_name(name)}", shared=shared, blocking=blocking, on_wait=on_wait)

    def take_away(self, path: str, fd: int = -1) -> Staging:
        """Move a published directory (or file) here in one rename, to be removed when the result is
        discarded.

        `fd`, if given, holds its lock already, and is the result's from now on. Raises OSError.
        """
        try:
            if fd == -1:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
                flock(fd, LOCK_EX)  # so that no sweep meets us
            target = f"{self.path}/removed-{_random()}"
            os.rename(path, target)
        except BaseException:
            if fd != -1:
                os.close(fd)
            raise
        return Staging(target, fd)

    def sweep(self) -> list[str]:
        """Remove what dead owners left, and return what could not be removed, with the reason. Raises
        OSError."""
        left = []
        with os.scandir(self.path) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            try:
                _sweep(f"{self.path}/{name}")
            except OSError as error:
                left.append(f"{self.path}/{os.fsencode(name).decode('utf-8', 'replace')}: {error.strerror}")
        return left

    def _directory(self, kind: str) -> tuple[str, int]:
        while True:
            path = f"{self.path}/{kind}-{_random()}"
            os.mkdir(path, 0o700)
            try:
                fd = os.open(path, _DIRECTORY)
            except FileNotFoundError:  # a sweep was quicker than we were
                continue
            if try_flock(fd) and is_at(fd, path):
                return path, fd
            os.close(fd)


def _random() -> str:
    return os.urandom(8).hex()


def _sweep(path: str) -> None:
    """Remove one entry of tmp/, unless its owner lives."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        return
    except OSError:  # a symlink, a socket: nothing of ours, and nothing that can be locked
        os.unlink(path)
        return
    try:
        if not try_flock(fd) or not is_at(fd, path):
            return
        if os.path.isdir(path):
            from cache.removal import remove_tree

            remove_tree(path)
        else:
            os.unlink(path)
    finally:
        os.close(fd)
