"""Named locks between builds: flock(2) on a file of tmp/, which is gone when nobody holds it.

flock belongs to the open file description, and each lock opens its own: so it holds between threads as
between processes, and the kernel gives it back when its owner dies, however that happens.
"""

from __future__ import annotations

import fcntl
import os

from cache.disk import storing
from cache.errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PREFIX = "lock-"
_NAME_MAX = 200
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-")


class LockHeld(StoreError):
    """A lock that was not to be waited for is held by another build."""

    code = "store/locked"


def file_name(name: str) -> str:
    """Return the file name of the lock `name`: percent-encoded where needed, hashed where that is too
    long."""
    raw = name.encode("utf-8", "surrogateescape")
    plain = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
    if len(plain) > _NAME_MAX:
        import hashlib

        plain = "%" + hashlib.sha256(raw).hexdigest()
    return PREFIX + plain


def is_at(fd: int, path: str) -> bool:
    """True if `path` names the very file that `fd` has open."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_ino, here.st_dev) == (there.st_ino, there.st_dev)


def try_flock(fd: int, operation: int = fcntl.LOCK_EX) -> bool:
    """Take the lock if that needs no waiting. False if another holds it."""
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_existing(path: str) -> int | None:
    """Return a descriptor that locks what is at `path`; None if that is held (`cache.pins`), or gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if try_flock(fd) and is_at(fd, path):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


class flocked:  # noqa: N801 - reads as a clause: `with flocked(directory):`
    """Context that holds the flock of a file or directory that stays."""

    __slots__ = ("_exclusive", "_fd", "_path")

    def __init__(self, path: str, *, exclusive: bool = False) -> None:
        self._path = path
        self._exclusive = exclusive
        self._fd = -1

    def __enter__(self) -> None:
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if self._exclusive else fcntl.LOCK_SH)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unlock(self._fd)


def unlock(fd: int) -> None:
    """Give a lock back and close its descriptor. Not by the close alone: a forked child may have it open,
    too."""
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


class Lock:
    """A context manager that holds the lock file at `path`. Enter it once at a time.

    The file is unlinked by the last holder. Whoever opened it before that holds a lock that nobody else can
    see any more: so, having it, everyone looks whether the name still leads to what is locked, and starts
    over if not.
    """

    __slots__ = ("_blocking", "_fd", "_on_wait", "_operation", "_path")

    def __init__(
        self,
        path: str,
        *,
        shared: bool = False,
        blocking: bool = True,
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        self._path = path
        self._operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._blocking = blocking
        self._on_wait = on_wait
        self._fd = -1

    def __enter__(self) -> Lock:
        with storing("taking a lock"):
            self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock. `on_wait` is called (once) if another holds it; without `blocking`, raises
        LockHeld."""
        assert self._fd == -1, "a lock is entered once at a time"
        on_wait = self._on_wait
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                if not try_flock(fd, self._operation):
                    if not self._blocking:
                        raise LockHeld(f"another build holds {os.path.basename(self._path)}")
                    if on_wait is not None:
                        on_wait()
                        on_wait = None
                    fcntl.flock(fd, self._operation)
                if is_at(fd, self._path):
                    self._fd = fd
                    return
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def release(self) -> None:
        """Give the lock back. Unlocks by name, not just by close: a forked child may have the description
        open."""
        fd, self._fd = self._fd, -1
        if fd == -1:
            return
        try:
            # A shared holder must be alone before it unlinks. The upgrade is not atomic (flock(2)): look
            # again.
            if (self._operation == fcntl.LOCK_EX or try_flock(fd)) and is_at(fd, self._path):
                os.unlink(self._path)
        finally:
            unlock(fd)
