"""The upperdir that a layer is unpacked into, and how a name in it is found.

Nothing outside of it is ever touched: each directory is opened with openat2 as a path of real directories
below it (cache/openat2.py), and what is in a directory is made, looked at and removed by its last component
alone, following nothing. Symlinks in an entry's parent are resolved here, component by component, in the
view of the lowerdirs under the upperdir: a directory that is there below is made in the upperdir with the
same attributes, so that the view does not change; so is a file that a hard link names. Real images need
both (`lib/x` in a layer over `lib -> usr/lib`).
"""

from __future__ import annotations

import errno
import os
from functools import partial
from stat import S_IFCHR, S_IFMT, S_ISDIR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING, TypeVar

from cache import ownership
from cache.errors import FormatError, StoreError
from cache.holes import Holes, expect
from cache.idmap import overlay_attribute
from cache.openat2 import open_directory
from cache.pending import Attributes, Pending
from cache.upperdir import READ, READ_DIRECTORY, is_whiteout, remove_tree, xattrs

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from cache.merged import Found, Merged
    from cache.tar_format import Xattrs
    from cache.tar_reader import Member

_T = TypeVar("_T")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_SYMLINKS = 40  # as the kernel
_MAX_OPEN = 64
_MOST_MARKS = 64 << 20  # bytes of names, about; an image has some kilobytes of them
_CHUNK = 1024 * 1024


IMPLICIT = Attributes(0o755, 0, 0, 0, ())
"""Of a directory about which no layer says anything; its time depends on no clock."""


class Target:
    """An upperdir under construction, empty at first. Paths are relative bytes, "" is the upperdir itself.

    `_attributes` and `_opaque` are what directories get in the end, when nothing changes their mtimes any
    more.
    """

    def __init__(self, path: str, lowers: Merged) -> None:
        self._lowers = lowers
        self._open: dict[bytes, int] = {}
        self._attributes = Pending(path)
        self._opaque: set[bytes] = set()
        self._discarded: set[bytes] = set()
        self._marks = 0
        self._owners: dict[bytes, tuple[int, int]] = {}
        self._path = path
        self._root = os.open(path, READ_DIRECTORY)
        self._holes = Holes(self._root)

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget()
        self._attributes.close()
        os.close(self._root)

    # Where a name is

    def parent(self, path: bytes) -> bytes:
        """Return the real path of the directory that `path` names, which is made where it is missing."""
        real = self._resolve(path, invent=True)
        assert real is not None
        return real

    def existing(self, path: bytes) -> bytes | None:
        """As `parent`, but None if neither the layer nor one below has `path`. (With none below, it may
        well be.)
        """
        return self._resolve(path, invent=not self._lowers)

    def _resolve(self, path: bytes, *, invent: bool) -> bytes | None:
        try:
            self._descriptor(path)
            return path
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
        real = b""
        todo = path.split(b"/")[::-1]
        symlinks = 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":  # of a symlink's target; `real` has no symlinks, so its text tells the parent
                real = real.rpartition(b"/")[0]
                continue
            here = join(real, part)
            target = self._step(here, invent)
            if target is None:
                return None
            if not target:
                real = here
                continue
            symlinks += 1
            if symlinks > _MAX_SYMLINKS:
                raise FormatError(f"too many symlinks in {os.fsdecode(path[:200])!r}")
            if target.startswith(b"/"):
                real = b""
            todo.extend(reversed(target.split(b"/")))
        return real

    def _step(self, path: bytes, invent: bool) -> bytes | None:
        """Return the symlink's target that `path` is, or None for nothing, or make sure that it is a
        directory: b"".
        """
        status = self._status(path)
        if status is None:
            found = self._below(path)
            if found is None:
                if not invent:
                    return None
                self.directory(path, IMPLICIT)
            elif S_ISLNK(found.status.st_mode):
                return os.readlink(path, dir_fd=found.root)
            elif S_ISDIR(found.status.st_mode):
                self.directory(path, _copied(found, path))
            else:
                raise FormatError(f"{os.fsdecode(path[:200])!r} is not a directory")
        elif S_ISLNK(status.st_mode):
            above, _, name = path.rpartition(b"/")
            return os.readlink(name, dir_fd=self._descriptor(above))
        elif is_whiteout(status):
            if not invent:
                return None
            self.directory(path, IMPLICIT)
        elif not S_ISDIR(status.st_mode):
            raise FormatError(f"{os.fsdecode(path[:200])!r} is not a directory")
        return b""

    def _status(self, path: bytes) -> os.stat_result | None:
        above, _, name = path.rpartition(b"/")
        try:
            return os.lstat(name, dir_fd=self._descriptor(above))
        except FileNotFoundError:
            return None

    def has_file(self, path: bytes) -> bool:
        """Whether `path`, in a directory that is there, is something that is no directory."""
        status = self._status(path)
        return status is not None and not S_ISDIR(status.st_mode)

    def _below(self, path: bytes) -> Found | None:
        """What the lowerdirs have at `path`, unless the layer hides it."""
        if self._opaque:
            parts = path.split(b"/")
            if any(b"/".join(parts[:depth]) in self._opaque for depth in range(len(parts))):
                return None
        return self._lowers.lookup(path)

    def _descriptor(self, path: bytes) -> int:
        """Return a descriptor of the directory `path`, all of whose components must be directories.

        It is valid until some more are asked for, or something is removed.
        """
        if not path:
            return self._root
        descriptor = self._open.pop(path, -1)
        if descriptor < 0:
            descriptor = open_directory(self._root, path)
            if len(self._open) >= _MAX_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = descriptor  # at the end: first is what was not asked for longest
        return descriptor

    def _forget(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def expect(self, member: Member) -> None:
        """Raise StoreFull if the disk has no room for a file, holes and all."""
        if member.sparse is None:
            expect(self._root, member.size, member.name)
        else:
            written = sum(size for _, size in member.sparse.pieces)
            self._holes.add(member.sparse.size - written, member.name)

    # What is made in it

    def place(self, path: bytes, make: Callable[[int, bytes], _T]) -> _T:
        """Call `make(directory, name)` for `path`, once more if it finds something there, after removing
        that.
        """
        above, _, name = path.rpartition(b"/")
        try:
            return make(self._descriptor(above), name)
        except FileExistsError:
            self._remove(path)
            return make(self._descriptor(above), name)

    def _remove(self, path: bytes) -> None:
        above, _, name = path.rpartition(b"/")
        parent = self._descriptor(above)
        if S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            remove_tree(parent, name)
            self._forget()  # some of the descriptors may be of what is gone
        else:
            os.unlink(name, dir_fd=parent)

    def directory(self, path: bytes, attributes: Attributes) -> None:
        """Make the directory `path`, or give the one that is there other attributes."""
        above, _, name = path.rpartition(b"/")
        parent = self._descriptor(above)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, 0o700, dir_fd=parent)
                self._mark(self._opaque, path)  # what was here hid a directory below, and so must this one
        self._attributes[path] = attributes

    def symlink(self, path: bytes, target: bytes, attributes: Attributes) -> None:
        """Make a symlink. `target` may be anything: nobody follows it but in `_resolve`."""
        self.place(path, lambda parent, name: os.symlink(target, name, dir_fd=parent))
        self._own(path, attributes)

    def fifo(self, path: bytes, attributes: Attributes) -> None:
        """Make a named pipe."""
        self.place(path, lambda parent, name: os.mkfifo(name, 0o600, dir_fd=parent))
        self._own(path, attributes)

    def device(self, path: bytes, kind: int, number: int, attributes: Attributes) -> None:
        """Make a device of `kind` S_IFCHR or S_IFBLK.

        Character device 0/0 is made too, as everywhere: images of nested overlays (kind's nodes) have such.
        It is no content, but a whiteout.
        """
        self.place(path, lambda parent, name: ownership.make_device(name, kind, number, parent))
        self._own(path, attributes)

    def _own(self, path: bytes, attributes: Attributes) -> None:
        """Give what cannot be opened its attributes. It has no xattrs that a layer keeps."""
        above, _, name = path.rpartition(b"/")
        parent = self._descriptor(above)
        if not ownership.give(os.fsdecode(name), attributes.uid, attributes.gid, directory=parent):
            self._owners[path] = attributes.uid, attributes.gid
        if not S_ISLNK(os.lstat(name, dir_fd=parent).st_mode):
            os.chmod(name, attributes.mode, dir_fd=parent)
        os.utime(name, ns=(attributes.mtime, attributes.mtime), dir_fd=parent, follow_symlinks=False)

    def link(self, source: bytes, path: bytes) -> bool:
        """Make `path` a hard link to `source`, which is copied up if a lowerdir has it; False if it does
        not exist.
        """
        status = self._status(source)
        if status is None:
            found = self._below(source)
            if found is None:
                return False
            self._copy_up(source, found)
        elif S_ISDIR(status.st_mode):
            raise FormatError("it is a hard link to a directory")
        elif source == path:
            return True
        above, _, source_name = source.rpartition(b"/")

        def make(parent: int, name: bytes) -> None:
            os.link(
                source_name,
                name,
                src_dir_fd=self._descriptor(above),
                dst_dir_fd=parent,
                follow_symlinks=False,
            )

        try:
            self.place(path, make)
        except FileNotFoundError:  # `path` was a directory, with `source` in it
            return False
        return True

    def whiteout(self, path: bytes) -> None:
        """Hide what the lowerdirs have at `path`, but not what the layer itself has there."""
        above, _, name = path.rpartition(b"/")
        parent = self._descriptor(above)
        try:
            os.mknod(name, S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            if S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                self.opaque(path)

    def opaque(self, path: bytes) -> None:
        """Hide what the lowerdirs have in the directory `path`."""
        self._mark(self._opaque, path)

    def discard_in_the_end(self, name: bytes) -> None:
        """Let `name`, right below the root, exist only until the layer is complete."""
        self._mark(self._discarded, name)

    def _mark(self, marks: set[bytes], path: bytes) -> None:
        """Add to a set that is held in memory until the layer is complete."""
        self._marks += len(path) + 100
        if self._marks > _MOST_MARKS:
            raise FormatError("there are too many opaque directories before it")
        marks.add(path)

    def _copy_up(self, path: bytes, found: Found) -> None:
        """Copy what a lowerdir has at `path`, as overlayfs would on a write."""
        attributes = _copied(found, path)
        kind = S_IFMT(found.status.st_mode)
        if S_ISREG(kind):
            file = self.place(path, lambda parent, name: os.open(name, _CREATE, 0o600, dir_fd=parent))
            try:
                _copy_data(found, path, file)
                dress(file, attributes)
            finally:
                os.close(file)
        elif S_ISLNK(kind):
            self.symlink(path, os.readlink(path, dir_fd=found.root), attributes)
        elif S_ISDIR(kind):
            raise FormatError("it is a hard link to a directory")
        else:
            self.device(path, kind, found.status.st_rdev, attributes)

    def finish(self) -> None:
        """Give the directories their attributes."""
        for name in self._discarded:
            if self._status(name) is not None:
                self._remove(name)
        if b"" in self._opaque:
            self._hide_root()
        for path in self._opaque - {b""}:
            self._finish(path, lambda directory: os.setxattr(directory, overlay_attribute("opaque"), b"y"))
        for path, attributes in self._attributes:
            self._finish(path, partial(dress, attributes=attributes))
        ownership.write_table(self._path, self._owners)

    def _finish(self, path: bytes, change: Callable[[int], None]) -> None:
        try:
            directory = open_directory(self._root, path)
        except (FileNotFoundError, NotADirectoryError):
            return  # a later entry took its place, or that of a directory above
        except OSError as error:
            if error.errno == errno.ELOOP:
                return
            raise
        try:
            change(directory)
        finally:
            os.close(directory)

    def _hide_root(self) -> None:
        """overlayfs does not look for the mark on the root itself: mark what is in it."""
        for name in self._lowers.names(b""):
            self.whiteout(name)


def join(directory: bytes, name: bytes) -> bytes:
    """Return the path of `name` in `directory`."""
    return directory + b"/" + name if directory else name


def dress(file: int, attributes: Attributes) -> None:
    """Give an open file or directory its attributes, in the order in which none undoes another.

    chown(2) takes away set-user-ID and file capabilities.
    """
    ownership.give(file, attributes.uid, attributes.gid)
    os.fchmod(file, attributes.mode)
    for name, value in attributes.xattrs:
        try:
            os.setxattr(file, name, value)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOSPC):
                raise
            shown = os.fsdecode(name)
            raise StoreError(
                f"the store's file system cannot hold the extended attribute {shown}: {error.strerror}"
            ) from error
    os.utime(file, ns=(attributes.mtime, attributes.mtime))


def write_all(file: int, data: memoryview | bytes) -> None:
    """Write all of `data`."""
    written = os.write(file, data)
    while written < len(data):
        data = data[written:]
        written = os.write(file, data)


def _copied(found: Found, path: bytes) -> Attributes:
    status = found.status
    kept: Xattrs = ()
    if S_ISREG(status.st_mode) or S_ISDIR(status.st_mode):
        file = os.open(path, READ, dir_fd=found.root)
        try:
            kept = xattrs(file)
        finally:
            os.close(file)
    owner = ownership.owner_at(found.root, path, status)
    return Attributes(status.st_mode & 0o7777, *owner, status.st_mtime_ns, kept)


def _copy_data(found: Found, path: bytes, target: int) -> None:
    source = os.open(path, READ, dir_fd=found.root)
    try:
        while os.sendfile(target, source, None, _CHUNK):
            pass
    finally:
        os.close(source)
