"""What the store asks of its disk: errors said in our words, small files, durability, the boot that we are
in."""

from __future__ import annotations

import errno
import os

from cache.errors import StoreError, StoreFull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

FULL_HINT = "free some space, or run `pybuild prune` to drop layers that no image needs"
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_DENIED = frozenset((errno.EACCES, errno.EPERM))
_CLOSED_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BOOT_ID_LENGTH = 36


def store_error(error: OSError, doing: str) -> StoreError:
    """Return the StoreError (StoreFull where space, inodes or quota ran out) that says what failed while
    `doing`."""
    what = f"{doing}: {error.strerror or error}"
    path = error.filename2 or error.filename
    if path is not None and not isinstance(path, int):
        what += f": {os.fsdecode(path)}"
    if error.errno in _FULL:
        return StoreFull(what, hint=FULL_HINT)
    if error.errno in _DENIED:
        return StoreError(
            what, hint="run as root, or name a store of your own with --root", code="store/denied"
        )
    if error.errno == errno.EROFS:
        return StoreError(what, hint="the store must be on a writable file system; name another with --root")
    if error.errno == errno.EMFILE:
        return StoreError(what, hint="raise the limit of open files (ulimit -n)")
    return StoreError(what)


class storing:  # noqa: N801 - reads as a clause: `with storing("publishing a layer"):`
    """Context in which an OSError becomes the StoreError that names what was being done."""

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise store_error(error, self._doing) from error


def read_small(path: str, *, dir_fd: int | None = None, limit: int = 65536) -> bytes | None:
    """Return the first `limit` bytes of a file in the store, None where there is none. Follows no symlink."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.read(fd, limit)
    finally:
        os.close(fd)


def write_new(path: str, data: bytes, *, mode: int = 0o644) -> None:
    """Create `path`, which must not exist, with `data`."""
    fd = os.open(path, _CLOSED_FILE, mode)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`: write(2) may take less, most often just before the disk is full."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def boot_id() -> str:
    """Return the id that the kernel drew when this machine booted (random(4)): 36 characters."""
    with storing("reading the boot id"):
        text = read_small("/proc/sys/kernel/random/boot_id")
    identity = (text or b"").decode("ascii", "replace").strip()
    if len(identity) != _BOOT_ID_LENGTH:
        raise StoreError("no boot id in /proc/sys/kernel/random", hint="mount /proc")
    return identity


def syncfs(path: str) -> None:
    """Write everything of the file system that holds `path` to its disk (syncfs(2)), and wait until it is
    there."""
    import ctypes

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if call is None:  # a C library without it: sync(2) waits for all file systems
            os.sync()
        elif call(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)
