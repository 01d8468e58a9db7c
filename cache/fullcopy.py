"""A root filesystem without an overlay: a copy of all that the layers show, and afterwards the changeset.

For kernels and file systems that have no overlay. What is copied is remembered by inode and time of change;
what a step changed is then moved out of the copy, into an ordinary upperdir: the same as an overlay's, down
to the directories that it copies up, opaque ones, and files that are touched but as they were.

Names of one file in a layer become files of their own: in an overlay, too, writing to one of them leaves the
others (overlayfs.rst, "Non-standard behavior"); but `stat` shows one link in place of several.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from cache.fusemarks import copy_attributes
from cache.idmap import overlay_attribute
from cache.merged import Found, Merged
from cache.ownership import read_table, write_table
from cache.upperdir import READ, READ_DIRECTORY, is_opaque, walk

Birth = Callable[[int], int]
"""What tells when a file that is open was made (statx(2), stx_btime), in any unit; 0 if that is not known."""

_FICLONE = 0x40049409  # ioctl_ficlone(2)
_CHUNK = 1 << 24
_TICKS = 0.012
"""Seconds in which the kernel's coarse clock goes on by a tick at least: what happens later has another
time."""


class Known(NamedTuple):
    """Something in the copy, as it was before the step."""

    kind: int
    inode: int
    changed: int
    born: int


class FullCopy:
    """The copy in the directory `path`, which must be empty, and on the file system of the upperdir to
    come.
    """

    def __init__(self, path: str, birth: Birth) -> None:
        self.path = path
        self._birth = birth
        self._known: dict[bytes, Known] = {}

    def fill(self, lowerdirs: tuple[str, ...], upper: str | None = None, *, links: bool = False) -> None:
        """Copy what the lowerdirs show, top first, and above them `upper`, which is part of the changeset.
        `links`: hard links stay, for nothing will be written. Raises OSError.
        """
        root = os.open(self.path, READ_DIRECTORY)
        try:
            with Merged(lowerdirs if upper is None else (upper, *lowerdirs)) as merged:
                _Copying(merged, root, links=links).all()
            time.sleep(_TICKS)
            self._look(root)
        finally:
            os.close(root)
        if upper is not None:
            with Merged(lowerdirs) as below:
                self._forget(upper, below)

    def _forget(self, upper: str, below: Merged) -> None:
        """Have everything in `upper` count as changed since `below`."""
        root = os.open(upper, READ_DIRECTORY)
        try:
            for entry in walk(root):
                path = entry.path
                found = below.lookup(path)
                is_directory = entry.directory >= 0 and not is_opaque(entry.directory)
                if is_directory and found is not None and stat.S_ISDIR(found.status.st_mode):
                    if path in self._known:
                        self._known[path] = self._known[path]._replace(changed=0)
                elif found is not None:
                    self._known[path] = Known(0, 0, 0, 0)
                else:
                    self._known.pop(path, None)
        finally:
            os.close(root)

    def _look(self, root: int) -> None:
        todo = [b""]  # in place of recursion: an image may be thousands of directories deep
        while todo:
            path = todo.pop()
            for name in _names(root, path):
                place = path + b"/" + name if path else name
                self._known[place] = self._status(root, place)
                if self._known[place].kind == stat.S_IFDIR:
                    todo.append(place)

    def _status(self, root: int, path: bytes) -> Known:
        status = os.lstat(path, dir_fd=root)
        kind, born = stat.S_IFMT(status.st_mode), 0
        if kind == stat.S_IFDIR:
            fd = os.open(path, READ_DIRECTORY, dir_fd=root)
            try:
                born = self._birth(fd)
            finally:
                os.close(fd)
        return Known(kind, status.st_ino, status.st_ctime_ns, born)

    def changeset(self, upper: str) -> None:
        """Move what is not as it was copied to the empty directory `upper`, as an upperdir. The copy is of
        no use afterwards. Raises OSError.

        A table of owners beside either of them (`cache.ownership`) is kept, that of the copy first.
        """
        below: dict[bytes, list[bytes]] = {}
        for path in self._known:
            parent, _, name = path.rpartition(b"/")
            below.setdefault(parent, []).append(name)
        root, target = os.open(self.path, READ_DIRECTORY), os.open(upper, READ_DIRECTORY)
        try:
            owners = {**read_table(target), **read_table(root)}
            self._move(root, target, below)
            write_table(upper, {path: owner for path, owner in owners.items() if _there(target, path)})
        finally:
            os.close(root)
            os.close(target)

    def _move(self, root: int, target: int, below: dict[bytes, list[bytes]]) -> None:
        """Move what is changed."""
        todo = [b""]
        times: list[tuple[bytes, tuple[int, int]]] = []
        while todo:
            for path in self._move_in(root, target, todo.pop(), below):
                status = os.lstat(path, dir_fd=root)
                times.append((path, (status.st_atime_ns, status.st_mtime_ns)))
                todo.append(path)
        # Whatever came in: the times of directories are those that they had.
        for path, ns in reversed(times):
            with suppress(FileNotFoundError):
                os.utime(path, ns=ns, dir_fd=target, follow_symlinks=False)

    def _move_in(
        self, root: int, target: int, path: bytes, below: dict[bytes, list[bytes]]
    ) -> Iterator[bytes]:
        """Move what is changed in the directory `path`, which both have. Yields the directories in it that
        are the same, in which something may be changed.
        """
        now = _names(root, path)
        prefix = path + b"/" if path else b""
        for name in set(below.get(path, ())).difference(now):
            _make_parents(root, target, path)
            os.mknod(prefix + name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=target)
        for name in now:
            place = prefix + name
            before, after = self._known.get(place), self._status(root, place)
            same = before is not None and (before.kind, before.inode, before.born) == (
                after.kind, after.inode, after.born,
            )  # fmt: skip
            if same and after.kind == stat.S_IFDIR:
                if before != after:
                    _make_parents(root, target, place)
                yield place
            elif before != after:
                _make_parents(root, target, path)
                os.rename(place, place, src_dir_fd=root, dst_dir_fd=target)
                if before is not None and after.kind == stat.S_IFDIR:
                    os.setxattr(f"/proc/self/fd/{target}/{os.fsdecode(place)}", _opaque(), b"y")


def _names(root: int, path: bytes) -> list[bytes]:
    directory = os.open(path or b".", READ_DIRECTORY, dir_fd=root)
    try:
        return sorted(map(os.fsencode, os.listdir(directory)))
    finally:
        os.close(directory)


def _there(root: int, path: bytes) -> bool:
    try:
        os.lstat(path, dir_fd=root)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _opaque() -> str:
    return overlay_attribute("opaque")


def _make_parents(root: int, target: int, path: bytes) -> None:
    """Make the directory `path` in `target`, and those above it, with the attributes that they have in
    `root`.
    """
    missing = []
    while path and not _there(target, path):
        missing.append(path)
        path = path.rpartition(b"/")[0]
    for each in reversed(missing):
        _make_like(root, target, each)


def _make_like(root: int, target: int, path: bytes) -> None:
    above = path.rpartition(b"/")[0]
    times = os.lstat(above or b".", dir_fd=target)
    source = os.open(path, READ_DIRECTORY, dir_fd=root)
    try:
        status = os.fstat(source)
        os.mkdir(path, 0o700, dir_fd=target)
        made = os.open(path, READ_DIRECTORY, dir_fd=target)
        try:
            copy_attributes(source, made, status)
        finally:
            os.close(made)
    finally:
        os.close(source)
    os.utime(above or b".", ns=(times.st_atime_ns, times.st_mtime_ns), dir_fd=target, follow_symlinks=False)


# Copying


class _Copying:
    def __init__(self, merged: Merged, target: int, *, links: bool) -> None:
        self._merged = merged
        self._target = target
        self._links: dict[tuple[int, int], bytes] | None = {} if links else None

    def all(self) -> None:
        """Copy the merged tree. In place of recursion there are lists: it may be thousands of directories
        deep.
        """
        todo = [b""]
        made: list[tuple[bytes, Found]] = []
        while todo:
            path = todo.pop()
            directory = os.open(path or b".", READ_DIRECTORY, dir_fd=self._target)
            try:
                inside = list(self._directory(path, directory))
            finally:
                os.close(directory)
            made += inside
            todo += [place for place, _ in reversed(inside)]
        for place, found in reversed(made):  # when nothing changes their times any more
            self._dress(place, found)

    def _directory(self, path: bytes, made: int) -> Iterator[tuple[bytes, Found]]:
        """Copy what is in the merged directory `path` to the one that is open as `made`. Yields the
        directories in it, which are made, and empty.
        """
        for name in self._merged.names(path):
            place = path + b"/" + name if path else name
            found = self._merged.lookup(place)
            assert found is not None
            kind = stat.S_IFMT(found.status.st_mode)
            if kind == stat.S_IFDIR:
                os.mkdir(name, 0o700, dir_fd=made)
                yield place, found
            elif not self._linked(found, place):
                copy = _copy_file if kind == stat.S_IFREG else _copy_special
                copy(found.root, place, name, made, found.status)

    def _dress(self, place: bytes, found: Found) -> None:
        source = os.open(place, READ_DIRECTORY, dir_fd=found.root)
        try:
            made = os.open(place, READ_DIRECTORY, dir_fd=self._target)
            try:
                copy_attributes(source, made, found.status)
            finally:
                os.close(made)
        finally:
            os.close(source)

    def _linked(self, found: Found, place: bytes) -> bool:
        """Return whether it is a further name of what was copied, and has it by now."""
        if self._links is None or found.status.st_nlink == 1:
            return False
        first = self._links.setdefault((found.root, found.status.st_ino), place)
        if first == place:
            return False
        os.link(first, place, src_dir_fd=self._target, dst_dir_fd=self._target, follow_symlinks=False)
        return True


def _copy_file(root: int, path: bytes, name: bytes, target: int, status: os.stat_result) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    source = os.open(path, READ, dir_fd=root)
    try:
        made = os.open(name, flags, 0o600, dir_fd=target)
        try:
            _copy_data(source, made, status.st_size)
            copy_attributes(source, made, status)
        finally:
            os.close(made)
    finally:
        os.close(source)


def _copy_special(root: int, path: bytes, name: bytes, target: int, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(path, dir_fd=root), name, dir_fd=target)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _copy_data(source: int, made: int, size: int) -> None:
    """Share the blocks where the file system can, else copy them."""
    if not size:
        return
    try:
        fcntl.ioctl(made, _FICLONE, source)
        return
    except OSError:
        pass
    left = size
    while left:
        try:
            done = os.copy_file_range(source, made, left)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            done = os.sendfile(made, source, None, min(left, _CHUNK))
        if not done:
            break
        left -= done
