"""Files written below a directory that may hold other things already, and that others may write to meanwhile.

Each directory is opened by its last component, and nothing is followed: whatever stands there, nothing
outside of the directory is touched.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_ISDIR
from typing import TYPE_CHECKING, NamedTuple

from builder.events import Notice
from builder.exporters.base import OutputError, writing
from builder.exporters.destination import new_file
from cache.openat2 import open_directory
from cache.upperdir import READ, READ_DIRECTORY, xattrs

if TYPE_CHECKING:
    from types import TracebackType

    from builder.events import Emit
    from builder.exporters.merged import Entry
    from builder.exporters.meter import Meter
    from cache.tar_format import Xattrs

_CHUNK = 1 << 18
_MOST_AT_ONCE = 1 << 28
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NANOSECONDS = 1_000_000_000
_NO_RANGES = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class _Directory(NamedTuple):
    """A directory that is being filled: it gets its attributes when it is done."""

    prefix: bytes
    descriptor: int
    status: os.stat_result | None
    attributes: Xattrs


class TreeWriter:
    """Takes the entries of a root filesystem in their order, and writes them below the directory `root`.

    With `empty` it takes for granted that nothing is in its way. Raises OutputError, which names `dest`.
    """

    def __init__(self, root: int, dest: str, meter: Meter, emit: Emit, *, empty: bool) -> None:
        self._root = root
        self._dest = dest
        self._meter = meter
        self._emit = emit
        self._empty = empty
        self._owners = os.geteuid() == 0
        self._open = [_Directory(b"", root, None, ())]
        self._first: dict[tuple[int, int], bytes] = {}
        self._told: set[str] = set()

    def __enter__(self) -> TreeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while len(self._open) > 1:
            with writing(self._dest):
                self._close(self._open.pop(), complete=kind is None)

    def add(self, entry: Entry) -> None:
        """Write one entry."""
        parent, _, name = entry.path.rpartition(b"/")
        with writing(self._dest):
            while self._open[-1].prefix != parent:
                self._close(self._open.pop(), complete=True)
            self._write(entry, self._open[-1].descriptor, os.fsdecode(name))

    def _close(self, directory: _Directory, *, complete: bool) -> None:
        """Leave a directory: what is in it is written, and its time changes no more."""
        try:
            if complete and directory.status is not None:
                self._dress(directory.descriptor, directory.status, directory.attributes)
        finally:
            os.close(directory.descriptor)

    def _write(self, entry: Entry, parent: int, name: str) -> None:
        status = entry.status
        kind = S_IFMT(status.st_mode)
        if kind == S_IFDIR:
            self._directory(entry, parent, name)
            return
        if kind not in (S_IFREG, S_IFLNK, S_IFIFO, S_IFCHR, S_IFBLK):
            return  # a socket
        if not self._empty and (kind != S_IFREG or status.st_nlink > 1 or _is_directory(parent, name)):
            _remove(parent, name)
        if status.st_nlink > 1:
            first = self._first.setdefault((entry.layer, status.st_ino), entry.path)
            if first is not entry.path:
                self._hard_link(first, parent, name)
                return
        if kind == S_IFREG:
            self._regular(entry, parent, name)
            return
        if kind == S_IFLNK:
            os.symlink(os.readlink(entry.path, dir_fd=entry.root), os.fsencode(name), dir_fd=parent)
        elif not self._special(status, parent, name):
            return
        if self._owners:
            # Where an id does not exist, the file is its maker's: a directory has no place for records.
            os.chown(name, status.st_uid, status.st_gid, dir_fd=parent, follow_symlinks=False)
        if kind != S_IFLNK:
            os.chmod(name, status.st_mode & 0o7777, dir_fd=parent)
        os.utime(name, ns=_times(status), dir_fd=parent, follow_symlinks=False)

    def _directory(self, entry: Entry, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not _is_directory(parent, name):
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, READ_DIRECTORY, dir_fd=parent)
        origin = os.open(entry.path, READ_DIRECTORY, dir_fd=entry.root)
        try:
            self._open.append(_Directory(entry.path, descriptor, entry.status, xattrs(origin)))
        finally:
            os.close(origin)

    def _regular(self, entry: Entry, parent: int, name: str) -> None:
        source = os.open(entry.path, READ, dir_fd=entry.root)
        try:
            if self._empty:
                descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
                try:
                    self._fill(source, descriptor, entry)
                finally:
                    os.close(descriptor)
            else:
                with new_file(parent, name, self._dest, 0o600) as descriptor:
                    self._fill(source, descriptor, entry)
        finally:
            os.close(source)

    def _fill(self, source: int, target: int, entry: Entry) -> None:
        self._copy(source, target, entry.status.st_size)
        self._dress(target, entry.status, xattrs(source))

    def _copy(self, source: int, target: int, size: int) -> None:
        """Copy the content; the file system may share it between the two (copy_file_range(2))."""
        left = size
        ranges = size > _CHUNK
        while left:
            try:
                if ranges:
                    count = os.copy_file_range(source, target, min(left, _MOST_AT_ONCE))
                else:
                    data = os.read(source, min(left, _CHUNK))
                    count = os.write(target, data)
                    if count < len(data):
                        os.lseek(source, count - len(data), os.SEEK_CUR)
            except OSError as error:
                if not ranges or error.errno not in _NO_RANGES:
                    raise
                ranges = False
                continue
            if not count:
                raise OutputError("a file became shorter while it was read", code="output/changed")
            left -= count
            self._meter.count(count)

    def _dress(self, descriptor: int, status: os.stat_result, attributes: Xattrs) -> None:
        """Set owner, mode, xattrs and time, in the order in which none undoes another.

        chown(2) takes away set-user-ID and file capabilities.
        """
        if self._owners:
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, status.st_mode & 0o7777)
        for name, value in attributes:
            try:
                os.setxattr(descriptor, name, value)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise
                self._warn("output/xattr", f"{os.fsdecode(name)} of files cannot be kept in {self._dest}")
        os.utime(descriptor, ns=_times(status))

    def _hard_link(self, first: bytes, parent: int, name: str) -> None:
        above, _, last = first.rpartition(b"/")
        directory = open_directory(self._root, above or b".")
        try:
            os.link(os.fsdecode(last), name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)

    def _special(self, status: os.stat_result, parent: int, name: str) -> bool:
        try:
            os.mknod(name, S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=parent)
        except PermissionError:
            self._warn("output/device", f"device files cannot be made in {self._dest}, and are left out")
            return False
        return True

    def _warn(self, code: str, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._emit(Notice("warning", code, message))


def _times(status: os.stat_result) -> tuple[int, int]:
    seconds = status.st_mtime_ns // _NANOSECONDS * _NANOSECONDS
    return seconds, seconds


def _is_directory(parent: int, name: str) -> bool:
    try:
        return S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _remove(parent: int, name: str) -> None:
    """Make way: remove whatever is there, following nothing."""
    if _is_directory(parent, name):
        import shutil

        shutil.rmtree(name, dir_fd=parent)
        return
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)
