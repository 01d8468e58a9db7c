"""Leases: what a process was given from the store stays there until it gives it back or dies.

A lease is a shared flock on the published directory or file itself, which a prune must hold alone before it
takes it away. Nothing is written, so nothing is left over, and a full disk is no reason to fail.
"""

from __future__ import annotations

import fcntl
import os
import threading
from typing import TYPE_CHECKING

from cache.disk import storing
from cache.locks import is_at, unlock

if TYPE_CHECKING:
    from types import TracebackType

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def hold(path: str) -> int | None:
    """Return a descriptor that holds `path`, None if it is not there, or is being taken away."""
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        if is_at(fd, path):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


class Pins:
    """The paths that this process holds."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    def take(self, path: str) -> int | None:
        """Hold `path` and return its descriptor, which stays ours; None if there is no such thing."""
        with self._lock:
            fd = self._held.get(path)
            if fd is None:
                fd = hold(path)
                if fd is not None:
                    self._held[path] = fd
            return fd

    def adopt(self, path: str, fd: int) -> None:
        """Hold `path`, which `fd` (ours from now on) has locked for itself until now."""
        fcntl.flock(fd, fcntl.LOCK_SH)
        with self._lock:
            before, self._held[path] = self._held.get(path), fd
        if before is not None:
            unlock(before)

    def drop(self, path: str) -> None:
        """Hold `path` no longer."""
        with self._lock:
            fd = self._held.pop(path, None)
            if fd is not None:
                unlock(fd)

    def drop_all(self) -> None:
        """Hold nothing."""
        with self._lock:
            while self._held:
                unlock(self._held.popitem()[1])


class Lease:
    """Holds paths of the store for as long as it is open; a child that inherits its descriptors holds
    them, too."""

    __slots__ = ("_fds",)

    def __init__(self, fds: list[int]) -> None:
        self._fds = fds

    def filenos(self) -> tuple[int, ...]:
        """Return the descriptors, to be handed to a process that outlives this one (subprocess's
        pass_fds)."""
        return tuple(self._fds)

    def close(self) -> None:
        """Give back our part: the lease ends when every process that has its descriptors has closed them."""
        while self._fds:
            os.close(self._fds.pop())  # no unlock: that would end it for the others, too

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def take_lease(paths: list[str]) -> Lease | None:
    """Return a lease of all `paths`, None if one is not there."""
    lease = Lease([])
    try:
        with storing("leasing layers"):
            for path in paths:
                fd = hold(path)
                if fd is None:
                    lease.close()
                    return None
                lease._fds.append(fd)
    except BaseException:
        lease.close()
        raise
    return lease
