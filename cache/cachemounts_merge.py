"""Two trees into one: what one has and the other has not is linked into the other, and a swap in one
rename.
"""

from __future__ import annotations

import ctypes
import errno
import os
from stat import S_ISDIR

from cache.openat2 import open_directory
from cache.pending import Attributes
from cache.unpack_target import dress
from cache.upperdir import READ_DIRECTORY, walk, xattrs

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h


def merge(source: str, target: str) -> None:
    """Link what the tree at `source` has and the one at `target` has not into the latter, by hard links.

    `source` stays as it is, and no data is copied. A directory that both have keeps the attributes of
    `target`'s; where one has a directory and the other something else, that of `target` stays. Neither may be
    changed by others meanwhile. Raises OSError, and FormatError for a path that is too long.
    """
    old = os.open(source, READ_DIRECTORY)
    try:
        new = os.open(target, READ_DIRECTORY)
        try:
            _merge(old, new)
        finally:
            os.close(new)
    finally:
        os.close(old)


def exchange(first: str, second: str) -> None:
    """Let two paths of one file system trade places, at once (renameat2(2), RENAME_EXCHANGE). Raises
    OSError."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, "this C library has no renameat2", first, None, second)
    if call(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), first, None, second)


def _merge(old: int, new: int) -> None:
    covered: bytes | None = None  # a directory of `old` where `new` has something else
    changed: dict[bytes, Attributes] = {}  # directories that get something, as they are to be in the end
    parent, into = b"", os.dup(new)
    try:
        for entry in walk(old, layer=False):
            if covered is not None and entry.path.startswith(covered):
                continue
            above, _, name = entry.path.rpartition(b"/")
            if above != parent:
                os.close(into)
                into = -1
                into = open_directory(new, above or b".")
                parent = above
            there = _status(into, name)
            if there is not None:
                if entry.directory >= 0 and not S_ISDIR(there.st_mode):
                    covered = entry.name
                continue
            if parent not in changed:
                changed[parent] = _attributes(into)
            if entry.directory >= 0:
                os.mkdir(name, 0o700, dir_fd=into)
                changed[entry.path] = _attributes(entry.directory)
            else:
                os.link(entry.path, name, src_dir_fd=old, dst_dir_fd=into, follow_symlinks=False)
    finally:
        if into >= 0:
            os.close(into)
    for path in sorted(changed, reverse=True):  # those inside first, while they can be reached
        directory = open_directory(new, path or b".")
        try:
            dress(directory, changed[path])
        finally:
            os.close(directory)


def _status(directory: int, name: bytes) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None


def _attributes(directory: int) -> Attributes:
    status = os.fstat(directory)
    mode = status.st_mode & 0o7777
    return Attributes(mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs(directory))
