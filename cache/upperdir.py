"""An overlay upperdir as it lies on the disk: its entries in the order of the layer tar, and what overlayfs
marks.

Source: the kernel's Documentation/filesystems/overlayfs.rst (whiteouts and opaque directories) and the
image-spec's layer.md. Nothing else may change the directory meanwhile: then no path in it turns into a
symlink under our hands, and paths relative to its descriptor are safe.

*Order.* Entries come in the byte order of the names that they have in the tar, where a directory's ends in
a slash and a whiteout's last component begins with `.wh.`. So a directory stands right before its contents
(`a-b`, `a/`, `a/x`, `ab`), as git sorts trees, and one pass over the disk is enough.
"""

from __future__ import annotations

import errno
import os
from stat import S_IFCHR, S_IFDIR, S_IFMT
from typing import TYPE_CHECKING, NamedTuple

from cache.errors import FormatError
from cache.idmap import overlay_attribute
from cache.ownership import is_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.tar_format import Xattrs

WHITEOUT_PREFIX = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"
MAX_PATH = 4095
"""PATH_MAX without its NUL. Deeper trees can be made step by step, but no tool could unpack them."""

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    """One thing in an upperdir."""

    name: bytes
    """As in the tar: a trailing slash on a directory, `.wh.` on a whiteout."""
    path: bytes
    """On the disk, relative to the upperdir."""
    status: os.stat_result
    directory: int
    """A descriptor of it if it is a directory, open until the next entry is asked for; else -1."""
    whiteout: bool


def walk(root: int, *, layer: bool = True) -> Iterator[Entry]:
    """Yield everything below the directory that is open as `root`, but not itself, in the order of the
    layer tar.

    Without `layer` it is a plain directory, where no name and no device means anything else than it says.
    Raises FormatError for what no layer can hold: a file that is called like a whiteout, a path that is too
    long (the latter without `layer`, too).
    """
    levels = [iter(_names(root, b"", root, layer))]
    while levels:
        for name, path, whiteout in levels[-1]:
            status = os.lstat(path, dir_fd=root)
            if S_IFMT(status.st_mode) != S_IFDIR:
                yield Entry(name, path, status, -1, whiteout)
                continue
            directory = os.open(path, READ_DIRECTORY, dir_fd=root)
            try:
                yield Entry(name, path, status, directory, False)
                levels.append(iter(_names(directory, name, root, layer)))
            finally:
                os.close(directory)
            break
        else:
            levels.pop()


def _names(directory: int, prefix: bytes, root: int, layer: bool) -> list[tuple[bytes, bytes, bool]]:
    """List `directory`: (name in the tar, path on the disk, is it a whiteout), sorted."""
    result = []
    with os.scandir(directory) as entries:
        for entry in entries:
            path = prefix + os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                result.append((path + b"/", path, False))
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                result.append((path, path, False))
            elif layer and is_whiteout(os.lstat(path, dir_fd=root)):
                result.append((prefix + WHITEOUT_PREFIX + path[len(prefix) :], path, True))
            else:
                result.append((path, path, False))
    result.sort()
    for _, path, _ in result:
        _check(path, len(prefix), layer)
    return result


def _check(path: bytes, start: int, layer: bool) -> None:
    if len(path) > MAX_PATH:
        what = "a layer" if layer else "an archive"
        raise FormatError(f"a path is too long for {what}: {os.fsdecode(path[:60])}… has {len(path)} bytes")
    if layer and path.startswith(WHITEOUT_PREFIX, start):
        raise FormatError(
            f"/{os.fsdecode(path)} cannot be in a layer: the image format marks deletions by names in .wh.",
            hint="remove or rename it in the step that makes it",
        )


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is overlayfs's mark for a deleted name: a character device 0/0."""
    return S_IFMT(status.st_mode) == S_IFCHR and status.st_rdev == 0


def is_opaque(directory: int) -> bool:
    """Whether the open directory hides all that lies below it in lower layers."""
    try:
        return os.getxattr(directory, overlay_attribute("opaque")) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise


def keeps_xattr(name: bytes) -> bool:
    """Whether a layer keeps the extended attribute `name`.

    user.* and file capabilities are content, as for every tool of the field. POSIX ACLs are kept too:
    without one the group bits of the mode, which hold the ACL's mask, would grant what the ACL denies. The
    rest belongs to the host (security.selinux, security.ima, trusted.*) or to the overlay itself. A name
    with `=` does not fit into PAX.
    """
    if name.startswith(b"user."):
        return not name.startswith(b"user.overlay.") and b"=" not in name and not is_record(name)
    return name in (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")


def xattrs(file: int) -> Xattrs:
    """Return those extended attributes of the open file or directory that a layer keeps, sorted by name."""
    try:
        names = os.listxattr(file)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise
    if not names:
        return ()
    encoded = sorted(name for name in map(os.fsencode, names) if keeps_xattr(name))
    return tuple((name, os.getxattr(file, name)) for name in encoded)


def remove_tree(root: int, path: bytes) -> None:
    """Remove the directory `path`, relative to the one that is open as `root`, with all that is in it."""
    directories = [path]
    for directory in directories:
        descriptor = os.open(directory, READ_DIRECTORY, dir_fd=root)
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(directory + b"/" + os.fsencode(entry.name))
                    else:
                        os.unlink(entry.name, dir_fd=descriptor)
        finally:
            os.close(descriptor)
    for directory in reversed(directories):
        os.rmdir(directory, dir_fd=root)
