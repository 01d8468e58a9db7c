"""tmp/: everything that is unfinished, each piece held by the flock of its owner, and swept once that is
gone."""

from __future__ import annotations

import contextlib
import os
import threading
from errno import EDQUOT, ENOSPC
from fcntl import LOCK_EX, flock

from cache.disk import storing
from cache.locks import Lock, file_name, is_at, try_flock
from cache.ownership import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from cache.trash import Trash

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """A private directory of tmp/ with an overlay's `upper` and `work` in it. Enter it, or call `discard`
    when done.

    What was not published is removed with it. `upper` is 0755 root:root (the caller's ids, rootless): the
    mode that the root directory of a layer has until the step changes it.
    """

    __slots__ = ("_fd", "_scratch", "path", "upper", "work")

    def __init__(self, scratch: Scratch, path: str, fd: int) -> None:
        self.path = path
        self.upper = path + "/diff"
        self.work = path + "/work"
        self._scratch = scratch
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

    def keep_only(self, name: str) -> None:
        """Throw away all that is in the directory but the changeset `name` and its table of owners, so that
        it can be published as it is.
        """
        for other in os.listdir(self.path):
            if other not in (name, name + TABLE):
                self._scratch.throw_away(f"{self.path}/{other}")

    def move(self, target: str) -> None:
        """Rename the directory to `target`: it is published, and nothing is left to discard. Raises
        OSError."""
        os.rename(self.path, target)
        self._release()

    def discard(self) -> None:
        """Throw the directory away, unless that was done, or it was published."""
        if self._fd == -1:
            return
        try:
            with storing("removing a staging directory"):
                self._scratch.throw_away(self.path)
        finally:
            self._release()

    def remove(self) -> None:
        """Remove the directory, if it is empty, and give it back."""
        with contextlib.suppress(OSError):  # what keeps it is told by who tried to empty it
            os.rmdir(self.path)
        self._release()

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)


class Scratch:
    """The directory tmp/ of a store."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._trash: Trash | None = None
        self._trash_lock = threading.Lock()

    def stage(self) -> Staging:
        """Make a staging directory. Raises StoreFull, StoreError."""
        with storing("staging"):
            staging = self.directory("stage")
            try:
                os.mkdir(staging.upper)
                os.chmod(staging.upper, 0o755)  # whatever the umask is
                os.mkdir(staging.work, 0o700)
            except BaseException:
                staging.discard()
                raise
        return staging

    def directory(self, kind: str) -> Staging:
        """Make an empty private directory. Raises OSError."""
        while True:
            path = f"{self.path}/{kind}-{_random()}"
            os.mkdir(path, 0o700)
            try:
                fd = os.open(path, _DIRECTORY)
            except FileNotFoundError:  # a sweep was quicker than we were
                continue
            if try_flock(fd) and is_at(fd, path):
                return Staging(self, path, fd)
            os.close(fd)

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

    def throw_away(self, path: str) -> None:
        """Remove the tree at `path`, which is in tmp/ and ours: out of sight now, and gone when `settle`
        returns.

        A kernel takes a millisecond to remove a directory, and a step leaves five: the next one need not wait
        for that. Raises OSError.
        """
        with self._trash_lock:
            try:
                if self._trash is None:
                    from cache.trash import Trash

                    self._trash = Trash(self.directory("trash"))
                self._trash.put(path)
                return
            except FileNotFoundError:
                return  # nothing is left of it
            except OSError as error:
                if error.errno not in (ENOSPC, EDQUOT):  # no room even for the directory of the trash
                    raise
        from cache.removal import remove_tree

        remove_tree(path)

    def settle(self) -> list[str]:
        """Wait until all that was thrown away is removed, and return what could not be, with the reason."""
        with self._trash_lock:
            trash, self._trash = self._trash, None
        return trash.close() if trash is not None else []

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
        return Staging(self, target, fd)

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
