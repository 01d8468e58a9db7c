"""What the cache mounts of a store hold, and taking them away. What is in use is left alone."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.cachemounts import Identity, read_identity, read_sharing
from cache.disk import storing
from cache.locks import LockHeld
from cache.openat2 import open_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cache.cachemounts import CacheMounts
    from cache.scratch import Staging

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DISK_BLOCK = 512  # of st_blocks, whatever the file system's own are (stat(2))
_SHORT = 12


@dataclass(frozen=True, slots=True)
class CacheMount:
    """An instance of a cache mount. `name` is that of its directory; `size` in bytes on the disk, `files`
    what it holds that is no directory; times in seconds since 1970, 0 where nobody knows; `sharing` as its
    last user had it, "" if there was none. `id` is "" where a power cut took it."""

    name: str
    id: str
    base: str
    uid: int
    gid: int
    mode: int
    size: int
    files: int
    created: int
    used: int
    sharing: str
    in_use: bool

    @property
    def short_name(self) -> str:
        """The name with only the first digits of its key."""
        key, _, number = self.name.rpartition("-")
        return f"{key[:_SHORT]}-{number}"

    def matches(self, text: str) -> bool:
        """True if `text` is its id, its name, or the short one."""
        return text in (self.id or None, self.name, self.short_name)


def all_mounts(mounts: CacheMounts) -> list[CacheMount]:
    """Return every instance, sorted by id, base and number. Raises StoreError."""
    found = []
    with storing("looking at the cache mounts"):
        for name in mounts.names():
            with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
                found.append(_look(mounts, name))
    return sorted(found, key=lambda mount: (mount.id, mount.base, mount.name))


def remove(mounts: CacheMounts, name: str) -> bool:
    """Take an instance away; False if it is in use, or gone. Raises StoreError."""
    with storing("removing a cache mount"):
        gone = vanish(mounts, name)
        if gone is None:
            return False
        gone.discard()
    return True


def vanish(mounts: CacheMounts, name: str) -> Staging | None:
    """Move an instance to tmp/, to be removed when the result is discarded; None if it is in use, or gone.
    Raises OSError."""
    fd = lock_alone(mounts, name)
    return None if fd is None else mounts.scratch.take_away(f"{mounts.path}/{name}", fd)


def lock_alone(mounts: CacheMounts, name: str) -> int | None:
    """Return a descriptor that keeps all others from an instance; None if it is in use, or gone."""
    try:
        with mounts.lock(name.rpartition("-")[0], blocking=False):
            return mounts.try_lock(name)
    except LockHeld:
        return None  # somebody makes, exports or imports one of this key


def choose(
    found: Iterable[CacheMount],
    *,
    now: float,
    older_than: float | None = None,
    keep_storage: int | None = None,
    pattern: str | None = None,
) -> list[CacheMount]:
    """Return which to take away, the longest unused first: of those whose id fits `pattern` (as in fnmatch),
    and that were not used for `older_than` seconds, so many that the rest holds at most `keep_storage` bytes.
    None sets no bound; one in use is never chosen. Pure."""
    idle = [mount for mount in found if not mount.in_use]
    if pattern is not None:
        idle = [mount for mount in idle if fnmatch.fnmatchcase(mount.id, pattern)]
    left = sum(mount.size for mount in idle)
    chosen = []
    for mount in sorted(idle, key=lambda mount: (mount.used, mount.name)):
        if older_than is not None and mount.used > now - older_than:
            break
        if keep_storage is not None and left <= keep_storage:
            break
        chosen.append(mount)
        left -= mount.size
    return chosen


def prune(root: str, mounts: CacheMounts, chosen: Iterable[CacheMount]) -> list[CacheMount]:
    """Take `chosen` away, and return those that went: what came into use meanwhile stays. `root` is the
    store's. Raises StoreError."""
    from cache import reserve

    taken = []
    with storing("pruning the cache mounts"):
        reserve.give_back(root)  # a full disk has no room for a lock
        for mount in chosen:
            gone = vanish(mounts, mount.name)
            if gone is not None:
                gone.discard()
                taken.append(mount)
        mounts.scratch.settle()
        with contextlib.suppress(OSError):  # still full: the next prune sees to it
            reserve.keep(root)
    return taken


def disk_usage(path: str) -> tuple[int, int]:
    """Return how many bytes of the disk the tree at `path` takes, and how many things in it are no directory.

    What is written there meanwhile may or may not count; no symlink is followed, whoever makes one. Where
    there is no directory, that is none. Raises OSError.
    """
    try:
        root = os.open(path, _OPEN)
    except (FileNotFoundError, NotADirectoryError):
        return 0, 0
    seen: set[int] = set()  # inodes with several names
    files = 0
    try:
        size = os.fstat(root).st_blocks
        pending = [b"."]
        while pending:
            above = pending.pop()
            try:
                directory = open_directory(root, above)
            except OSError:  # gone, or something else now; or deeper than a path can say
                continue
            try:
                for status, name in _entries(directory):
                    if name is not None:
                        pending.append(above + b"/" + name)
                    else:
                        files += 1
                        if status.st_nlink > 1:
                            if status.st_ino in seen:
                                continue
                            seen.add(status.st_ino)
                    size += status.st_blocks
            finally:
                os.close(directory)
    finally:
        os.close(root)
    return size * _DISK_BLOCK, files


def _entries(directory: int) -> Iterable[tuple[os.stat_result, bytes | None]]:
    """Yield the status of each thing in a directory, and the name of those that are directories."""
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                is_directory = entry.is_dir(follow_symlinks=False)
                yield entry.stat(follow_symlinks=False), os.fsencode(entry.name) if is_directory else None


def _look(mounts: CacheMounts, name: str) -> CacheMount:
    path = f"{mounts.path}/{name}"
    used = os.stat(path).st_mtime
    with contextlib.suppress(FileNotFoundError):
        used = os.stat(path + "/used").st_mtime
    size, files = disk_usage(path + "/data")
    described = read_identity(path)
    identity, created = described or (Identity(""), 0)
    return CacheMount(
        name,
        identity.id,
        identity.base,
        identity.uid,
        identity.gid,
        identity.mode,
        size,
        files,
        created,
        int(used),
        read_sharing(path),
        is_in_use(mounts, name),
    )


def is_in_use(mounts: CacheMounts, name: str) -> bool:
    """True if a process uses an instance, or is about to. Raises OSError."""
    try:
        with mounts.lock(name.rpartition("-")[0], blocking=False):
            fd = mounts.try_lock(name)
            if fd is None:
                return os.path.lexists(f"{mounts.path}/{name}")
            os.close(fd)  # before the key's lock: who sees it held begins another instance
            return False
    except LockHeld:
        return True
