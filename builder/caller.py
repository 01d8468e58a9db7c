"""The thread that made a system call which waits for an answer: its memory, files and state.

All of it is read by a directory of a /proc that was pinned before the step could do anything, and by the
thread's own directory therein, which stays that thread's when its number is given to another one
(seccomp_unotify(2)). Imported by the launcher: nothing heavy.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from builder import linux

if TYPE_CHECKING:
    from types import TracebackType

OWN_FILES = "self/fd"
"""This process's descriptors, from the pinned /proc, which is its working directory."""

_PROC_SUPER_MAGIC = 0x9FA0
_PROC_ROOT = 1  # PROC_ROOT_INO of the kernel's include/linux/proc_ns.h
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_WITHIN = linux.RESOLVE_NO_XDEV | linux.RESOLVE_NO_SYMLINKS
"""Nothing that a step has mounted on a file of /proc, and no link, is followed."""
_LAST = 0xFFFFFFFF
_LONGEST = 4096


def pin(outer: int) -> int:
    """Return a descriptor of a /proc that is one: the step's, else `outer`, one of an outer pid namespace.
    It becomes this process's working directory.
    """
    fd = outer
    try:
        own = linux.openat2(linux.AT_FDCWD, "/proc", _DIRECTORY, linux.RESOLVE_NO_SYMLINKS)
    except OSError:
        own = -1
    if own >= 0:
        if linux.filesystem_type(own) == _PROC_SUPER_MAGIC and os.fstat(own).st_ino == _PROC_ROOT:
            fd = own
        else:  # the step has something else there
            os.close(own)
    os.fchdir(fd)
    return fd


def read(proc: int, path: str) -> str:
    """Return the text of a file of the pinned /proc. Raises OSError: ESRCH if the thread is gone."""
    try:
        fd = linux.openat2(proc, path, os.O_RDONLY, _WITHIN)
    except FileNotFoundError:
        raise OSError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
    with open(fd, "rb", buffering=0) as file:
        return (file.read() or b"").decode(errors="replace")


class Caller:
    """A thread, by its number in the pinned /proc."""

    def __init__(self, proc: int, thread: int) -> None:
        """Raises OSError (ESRCH) if it is gone."""
        self.thread = thread
        self._proc = proc
        try:
            self._fd = linux.openat2(proc, str(thread), _DIRECTORY, _WITHIN)
        except FileNotFoundError:
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH)) from None

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def status(self) -> dict[str, str]:
        """Return the lines of its status (proc_pid_status(5))."""
        lines = read(self._fd, "status").split("\n")
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def uid_map(self) -> str:
        """Return which user ids its user namespace has (user_namespaces(7))."""
        return read(self._fd, "uid_map")

    def peek(self, address: int, size: int) -> bytes:
        """Return what is in its memory, at most `size` bytes. Raises OSError (EFAULT) where nothing is."""
        fd = linux.openat2(self._fd, "mem", os.O_RDONLY, _WITHIN)
        try:
            data = os.pread(fd, size, address)
        except OSError:
            data = b""
        finally:
            os.close(fd)
        if not data:
            raise OSError(errno.EFAULT, "")
        return data

    def poke(self, address: int, data: bytes) -> None:
        """Write into its memory. Raises OSError (EFAULT)."""
        fd = linux.openat2(self._fd, "mem", os.O_RDWR, _WITHIN)
        try:
            os.pwrite(fd, data, address)
        except OSError:
            raise OSError(errno.EFAULT, "") from None
        finally:
            os.close(fd)

    def string(self, address: int) -> str:
        """Return the path at `address`. Raises OSError."""
        data = b""
        while b"\0" not in data:
            # Not over the end of a page: the next one may not be there.
            size = 4096 - (address + len(data)) % 4096
            data += self.peek(address + len(data), size)
            if len(data) > _LONGEST + 4096:
                raise OSError(errno.ENAMETOOLONG, "")
        return os.fsdecode(data.partition(b"\0")[0])

    def place(self, directory: int) -> str:
        """Return where a relative path begins for it: the path of its working directory, or of a descriptor's
        directory.
        """
        return os.readlink(_base(directory), dir_fd=self._fd)

    def open(self, directory: int, path: str | None, follow: bool) -> int:
        """Open what it means by `path`, without access to its content (O_PATH). Raises OSError."""
        base = _base(directory)
        if path is None:
            return os.open(base, os.O_PATH | os.O_CLOEXEC, dir_fd=self._fd)
        root = os.open("root", os.O_PATH | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            if not path.startswith("/"):
                top = os.readlink("root", dir_fd=self._fd).rstrip("/")
                place = self.place(directory)
                if top and not place.startswith(top + "/") and place != top:
                    raise OSError(errno.ENOENT, "")
                path = f"{place.removeprefix(top)}/{path}"
            flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
            return linux.openat2(root, path, flags, linux.RESOLVE_IN_ROOT)
        finally:
            os.close(root)


def _base(directory: int) -> str:
    if directory & _LAST == linux.AT_FDCWD & _LAST:
        return "cwd"
    return f"fd/{directory & 0x7FFFFFFF}"
