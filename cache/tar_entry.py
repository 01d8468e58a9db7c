"""What the layer tar says of an entry of an upperdir, its data aside: the one place where an entry becomes
a header.
"""

from __future__ import annotations

import os
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG
from typing import TYPE_CHECKING

from cache import idmap, ownership, tar_format
from cache.errors import FormatError
from cache.upperdir import OPAQUE_MARKER, is_opaque, xattrs

if TYPE_CHECKING:
    from cache.upperdir import Entry

_KINDS = {
    S_IFREG: tar_format.REGULAR,
    S_IFLNK: tar_format.SYMLINK,
    S_IFCHR: tar_format.CHARACTER,
    S_IFBLK: tar_format.BLOCK_DEVICE,
    S_IFDIR: tar_format.DIRECTORY,
    S_IFIFO: tar_format.FIFO,
}


class Describer:
    """Makes the headers of the upperdir that is open as `root`. It is asked for all entries, in their
    order.
    """

    __slots__ = ("_first", "_given", "_owners", "_root")

    def __init__(self, root: int) -> None:
        self._root = root
        self._owners = ownership.read_table(root)
        self._first: dict[int, bytes] = {}  # inode -> the first name of what has several
        self._given: dict[bytes, tuple[int, int]] = {}  # that first name -> whose it was said to be

    def first_name(self, entry: Entry) -> bytes | None:
        """Return the name that `entry` is a hard link to, or None if it is the first one of its inode.

        Whiteouts are none: overlayfs makes them of a single inode, which is no part of what they say.
        """
        status = entry.status
        if status.st_nlink == 1 or entry.whiteout or S_IFMT(status.st_mode) == S_IFDIR:
            return None
        first = self._first.setdefault(status.st_ino, entry.name)
        return None if first is entry.name else first

    def header(
        self,
        entry: Entry,
        mtime: int,
        *,
        first: bytes | None = None,
        file: int = -1,
        nanoseconds: int = 0,
    ) -> bytes:
        """Return the header of `entry` with `mtime` (s since 1970) and the `nanoseconds` after it, which a
        layer does not have.

        `first` is what `first_name` says of it, `file` a descriptor if it is a regular file: for its
        xattrs. Raises FormatError for what no layer can hold.
        """
        if entry.whiteout:
            return _mark(entry.name)
        status = entry.status
        kind = _KINDS.get(S_IFMT(status.st_mode))
        if kind is None:
            raise FormatError(f"/{os.fsdecode(entry.path)} is of a kind that no layer can hold")
        size, link, device = 0, b"", None
        attributes: tar_format.Xattrs = ()
        owner = self._owner(entry, file)
        if first is None and status.st_nlink > 1 and entry.directory < 0:
            self._given[entry.name] = owner
        if first is not None:
            kind, link = tar_format.HARD_LINK, first
            owner = self._given.get(first, owner)
        elif kind == tar_format.REGULAR:
            size, attributes = status.st_size, xattrs(file)
            if not size and (stands_for := ownership.device(file)):
                kind, device = _KINDS[stands_for[0]], (os.major(stands_for[1]), os.minor(stands_for[1]))
        elif kind == tar_format.DIRECTORY:
            attributes = xattrs(entry.directory)
        elif kind == tar_format.SYMLINK:
            link = os.readlink(entry.path, dir_fd=self._root)
        elif kind != tar_format.FIFO:
            device = os.major(status.st_rdev), os.minor(status.st_rdev)
        return tar_format.header(
            entry.name,
            kind,
            status.st_mode & 0o7777,
            *owner,
            size=size,
            mtime=mtime,
            link=link,
            device=device,
            xattrs=attributes,
            nanoseconds=nanoseconds,
        )

    def _owner(self, entry: Entry, file: int) -> tuple[int, int]:
        """Return whose the entry is: as the file system has it, or as it is recorded where that cannot."""
        status = entry.status
        if idmap.confined():
            if entry.directory >= 0 or file >= 0:
                return ownership.recorded(max(entry.directory, file), status)
            return self._owners.get(entry.path, (status.st_uid, status.st_gid))
        return status.st_uid, status.st_gid

    def opaque_marker(self, entry: Entry) -> bytes:
        """Return the header of the marker that follows the directory `entry` if it is opaque, else b""."""
        return _mark(entry.name + OPAQUE_MARKER) if is_opaque(entry.directory) else b""


def timeless(header: bytes) -> bytes:
    """Return what a header of mtime 0 says apart from its time: without the fields mtime and chksum, where
    they stand in a header without PAX records.
    """
    return header[:136] + header[156:] if len(header) == tar_format.BLOCK else header


def _mark(name: bytes) -> bytes:
    """Of a whiteout or opaque marker: Docker's mode, and nothing else that could differ."""
    return tar_format.header(name, tar_format.REGULAR, 0o600, 0, 0)
