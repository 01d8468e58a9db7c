"""An upperdir that fuse-overlayfs wrote, turned into what the kernel's overlayfs would have written.

fuse-overlayfs(1) marks deletions and opaque directories in several ways, by what it may do; keeps notes of
its own in extended attributes; copies a fifo up as a regular file, and of several names of a file one alone,
though all show what was written to it. Source: its main.c (1.10 and later).
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import NamedTuple

from cache.idmap import overlay_attribute
from cache.merged import Found, Merged
from cache.upperdir import OPAQUE_MARKER, READ, READ_DIRECTORY, WHITEOUT_PREFIX, is_whiteout, walk

_NOTES = ("user.fuseoverlayfs.", "user.overlay.", "trusted.overlay.")
_OPAQUE = ("user.fuseoverlayfs.opaque", "user.overlay.opaque", "trusted.overlay.opaque")
_ORIGIN = "user.fuseoverlayfs.origin"


class Notes(NamedTuple):
    """What the attributes said: it hides what is below; it was copied up from there."""

    opaque: bool = False
    copied: bool = False


def normalise(upper: str, lowerdirs: tuple[str, ...]) -> None:
    """Rewrite the directory `upper`, which was on the lowerdirs, top first. A mark that hides nothing goes.
    Raises OSError.
    """
    root = os.open(upper, READ_DIRECTORY)
    try:
        with Merged(lowerdirs) as merged:
            work = _Normaliser(root, merged)
            work.all()
            work.link()
    finally:
        os.close(root)


class _Normaliser:
    def __init__(self, root: int, merged: Merged) -> None:
        self._root = root
        self._merged = merged
        self._linked: list[tuple[bytes, Found]] = []
        """Files that were copied up, and had more names than one."""
        self._todo: list[tuple[bytes, bool]] = [(b"", False)]

    def all(self) -> None:
        """Go over everything. In place of recursion there is a list: a step may make directories of any
        depth.
        """
        while self._todo:
            path, hidden = self._todo.pop()
            self._directory(path, hidden=hidden)

    def _directory(self, path: bytes, *, hidden: bool) -> None:
        """Go over what is in the directory `path`; `hidden`: nothing shows through it from below."""
        fd = os.open(path or b".", READ_DIRECTORY, dir_fd=self._root)
        try:
            times = os.fstat(fd)
            names = set(map(os.fsencode, os.listdir(fd)))
            opaque = _forget_notes(fd).opaque or OPAQUE_MARKER in names
            if OPAQUE_MARKER in names:
                os.unlink(OPAQUE_MARKER, dir_fd=fd)
                names.remove(OPAQUE_MARKER)
            below = self._merged.lookup(path) if path and not hidden else None
            if below is not None and (opaque or not stat.S_ISDIR(below.status.st_mode)):
                os.setxattr(fd, overlay_attribute("opaque"), b"y")
                hidden, below = True, None
            prefix = path + b"/" if path else b""
            copied = [self._entry(prefix, name, fd, hidden) for name in sorted(names)]
            if below is not None and all(copied):
                times = below.status  # the kernel leaves them as they were
            os.utime(fd, ns=(times.st_atime_ns, times.st_mtime_ns))
        finally:
            os.close(fd)

    def _entry(self, prefix: bytes, name: bytes, directory: int, hidden: bool) -> bool:
        """Rewrite one entry. Return whether it is there since something below it was copied up."""
        status = os.lstat(name, dir_fd=directory)
        if name.startswith(WHITEOUT_PREFIX):
            os.unlink(name, dir_fd=directory)
            return self._whiteout(prefix, name.removeprefix(WHITEOUT_PREFIX), directory, hidden)
        path = prefix + name
        below = None if hidden else self._merged.lookup(path)
        if is_whiteout(status):
            if below is None:
                os.unlink(name, dir_fd=directory)
            return below is None
        if stat.S_ISDIR(status.st_mode):
            self._todo.append((path, hidden))
            return below is not None and stat.S_ISDIR(below.status.st_mode)
        if not stat.S_ISREG(status.st_mode):
            return False
        file = os.open(name, READ, dir_fd=directory)
        try:
            copied = _forget_notes(file).copied
        finally:
            os.close(file)
        if not copied or below is None:
            return False
        kind = stat.S_IFMT(below.status.st_mode)
        if kind != stat.S_IFREG:
            _make_special(name, kind, below.status.st_rdev, directory, status)
        elif below.status.st_nlink > 1:
            self._linked.append((path, below))
        return True

    def _whiteout(self, prefix: bytes, name: bytes, directory: int, hidden: bool) -> bool:
        with suppress(FileNotFoundError):
            os.lstat(name, dir_fd=directory)
            return True  # it is there again
        if hidden or self._merged.lookup(prefix + name) is None:
            return True
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=directory)
        return False

    def link(self) -> None:
        """Give the files that were copied up all the names that they had."""
        for path, found in self._linked:
            for name in _names_of(found):
                other = self._merged.lookup(name)
                same = other is not None and (other.root, other.status.st_ino) == (
                    found.root, found.status.st_ino,
                )  # fmt: skip
                if same and name != path and self._make_parents(name.rpartition(b"/")[0]):
                    with suppress(FileExistsError):  # it is another file by now, or gone
                        times = os.lstat(name.rpartition(b"/")[0] or b".", dir_fd=self._root)
                        os.link(path, name, src_dir_fd=self._root, dst_dir_fd=self._root)
                        self._set_times(name.rpartition(b"/")[0], times)

    def _make_parents(self, path: bytes) -> bool:
        """Have the directory `path` in the upper as well; return whether what is below shows through it."""
        parts = path.split(b"/") if path else []
        return all(self._make_parent(b"/".join(parts[:depth])) for depth in range(1, len(parts) + 1))

    def _make_parent(self, path: bytes) -> bool:
        try:
            fd = os.open(path, READ_DIRECTORY, dir_fd=self._root)
        except FileNotFoundError:
            self._copy_up(path, path.rpartition(b"/")[0])
            return True
        except OSError:  # something else is there
            return False
        try:
            return _attribute(fd, overlay_attribute("opaque")) != b"y"
        finally:
            os.close(fd)

    def _copy_up(self, path: bytes, above: bytes) -> None:
        found = self._merged.lookup(path)
        assert found is not None
        times = os.lstat(above or b".", dir_fd=self._root)
        os.mkdir(path, 0o700, dir_fd=self._root)
        source = os.open(path, READ_DIRECTORY, dir_fd=found.root)
        made = os.open(path, READ_DIRECTORY, dir_fd=self._root)
        try:
            copy_attributes(source, made, found.status)
        finally:
            os.close(source)
            os.close(made)
        self._set_times(above, times)

    def _set_times(self, path: bytes, status: os.stat_result) -> None:
        times = status.st_atime_ns, status.st_mtime_ns
        os.utime(path or b".", ns=times, dir_fd=self._root, follow_symlinks=False)


def copy_attributes(source: int, made: int, status: os.stat_result) -> None:
    """Give the open `made` owner, mode, extended attributes and times of `source`, whose status is given."""
    os.fchown(made, status.st_uid, status.st_gid)
    os.fchmod(made, stat.S_IMODE(status.st_mode))
    for name in _attributes(source):
        if name.startswith(_NOTES):
            continue
        try:
            os.setxattr(made, name, os.getxattr(source, name))
        except OSError as error:  # the host's own: security.selinux, trusted.*
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENODATA):
                raise
    os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))


def _names_of(found: Found) -> list[bytes]:
    """Return all names that a file has in its layer."""
    inode = found.status.st_ino
    return [entry.path for entry in walk(found.root) if entry.status.st_ino == inode]


def _make_special(name: bytes, kind: int, device: int, directory: int, status: os.stat_result) -> None:
    """Make a fifo or device in place of the regular file with `status`."""
    os.unlink(name, dir_fd=directory)
    os.mknod(name, kind | 0o600, device, dir_fd=directory)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
    os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=directory)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=directory, follow_symlinks=False)


def _forget_notes(fd: int) -> Notes:
    """Remove the notes at an open file or directory."""
    found = {name: _attribute(fd, name) for name in _attributes(fd) if name.startswith(_NOTES)}
    for name in found:
        os.removexattr(fd, name)
    return Notes(any(found.get(name) == b"y" for name in _OPAQUE), _ORIGIN in found)


def _attributes(fd: int) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def _attribute(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(fd, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise
