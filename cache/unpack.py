"""Layer tar -> overlay upperdir: what applying the layer to the mounted layers below would leave in the
upperdir.

Source: the image-spec's layer.md; where it is silent, containerd's archive.Apply. Entries may come in any
order, more than once (the last one counts), and without their parents. A whiteout concerns lower layers
only, whether it stands before or after an entry of the same name. What a name means is decided by the view
of `lowerdirs` under the layer: see cache/unpack_target.py, which also holds everything within the target.
"""

from __future__ import annotations

import errno
import os
from stat import S_IFBLK, S_IFCHR
from typing import TYPE_CHECKING

from cache import tar_format
from cache.changeset import NANOSECONDS, Changeset
from cache.errors import CacheError, FormatError, StoreError, StoreFull
from cache.merged import Merged
from cache.pending import Attributes
from cache.tar_reader import Member, Reader, Stream
from cache.unpack_target import Target, dress, join, write_all
from cache.upperdir import MAX_PATH, OPAQUE_MARKER, WHITEOUT_PREFIX, keeps_xattr

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cache.changeset import Input

_AUFS_PREFIX = b".wh..wh."  # AUFS's own bookkeeping; files in /.wh..wh.plnk may be what hard links name
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_ID = (1 << 32) - 2  # the last one means "unchanged" to chown(2)
_MAX_SECONDS = 1 << 40  # far beyond what any file system holds, and within time_t
_HOSTILE = frozenset(
    (
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.ENOTDIR,
        errno.EXDEV,
        errno.EINVAL,
        errno.E2BIG,
        errno.ERANGE,
        errno.EFBIG,
    )
)


def unpack(tar: Input | Iterable[bytes], target: str, lowerdirs: tuple[str, ...]) -> Changeset:
    """Unpack the uncompressed layer `tar` into the empty directory `target`; return what came, in numbers.

    `lowerdirs` are the layers below, top first; without them the layer is taken for itself. The digest is
    that of all bytes that came, which a tar written from `target` need not have. Raises FormatError for a
    tar that is malformed or would do harm, StoreFull and StoreError for the host's failures; what is in
    `target` then is of no use.
    """
    stream = Stream(tar)
    reader = Reader(stream)
    entries = newest = 0
    with Merged(lowerdirs) as lowers, Target(target, lowers) as place:
        for member in reader:
            entries += 1
            newest = max(newest, member.mtime // NANOSECONDS)
            try:
                add_entry(place, member, reader)
            except (FormatError, OSError) as error:
                raise about(error, member.name) from error
        try:
            place.finish()
        except OSError as error:
            raise about(error, b"/") from error
    return Changeset(stream.finish(), stream.size, entries, newest)


def about(error: FormatError | OSError, name: bytes, what: str = "layer entry") -> CacheError:
    """Return the error that says which entry could not be unpacked, and why."""
    shown = os.fsdecode(name[:200])
    if isinstance(error, FormatError):
        return FormatError(f"{what} {shown!r}: {error.message}", hint=error.hint)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"no space left while unpacking {shown!r}")
    if error.errno in _HOSTILE:
        return FormatError(f"{what} {shown!r} cannot be made: {error.strerror}")
    return StoreError(f"cannot unpack {shown!r}: {error.strerror}")


def name_parts(name: bytes) -> list[bytes]:
    """Return the components of an entry's name, which is relative to the root even if it begins with a slash.

    Raises FormatError if it leads out of the root, or is too long.
    """
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise FormatError("its name leads out of the layer")
    if len(name) > MAX_PATH:
        raise FormatError("its name is too long")
    return parts


def attributes_of(member: Member) -> Attributes:
    """Return what an entry says of itself, of its xattrs those that are content. Raises FormatError."""
    if not (0 <= member.uid <= _MAX_ID and 0 <= member.gid <= _MAX_ID):
        raise FormatError(f"no user or group has the id {member.uid}:{member.gid}")
    seconds = max(-_MAX_SECONDS, min(member.mtime // NANOSECONDS, _MAX_SECONDS))
    mtime = seconds * NANOSECONDS + member.mtime % NANOSECONDS
    kept = tuple((name, value) for name, value in member.xattrs if keeps_xattr(name)) if member.xattrs else ()
    return Attributes(member.mode, member.uid, member.gid, mtime, kept)


def add_entry(target: Target, member: Member, reader: Reader, *, layer: bool = True) -> None:
    """Put one entry in its place.

    Without `layer` a name in `.wh.` is one as any other, and what no archive that we write has is refused: a
    device, a name that leads through a symlink.
    """
    parts = name_parts(member.name)
    if not parts:
        if member.kind != tar_format.DIRECTORY:
            raise FormatError("only a directory can be the root")
        return  # the root's attributes are the store's: see cache/changeset.py
    name = parts[-1]
    parent = b"/".join(parts[:-1])
    if not layer:
        if member.kind in (tar_format.CHARACTER, tar_format.BLOCK_DEVICE):
            raise FormatError("it is a device")
        if target.parent(parent) != parent:
            raise FormatError("it lies behind a symlink")
        if member.kind == tar_format.DIRECTORY and target.has_file(join(parent, name)):
            raise FormatError("it is there already, and no directory")
    elif parts[0].startswith(_AUFS_PREFIX) and parts != [OPAQUE_MARKER]:
        target.discard_in_the_end(parts[0])
    elif name.startswith(WHITEOUT_PREFIX):
        _hide(target, parent, name)
        return
    elif WHITEOUT_PREFIX in parent and any(part.startswith(WHITEOUT_PREFIX) for part in parts):
        raise FormatError("it lies in a whiteout")
    path = join(target.parent(parent), name)
    kind = member.kind
    if kind == tar_format.REGULAR:
        _regular(target, path, member, reader)
    elif kind == tar_format.DIRECTORY:
        target.directory(path, attributes_of(member))
    elif kind == tar_format.HARD_LINK:
        _hard_link(target, path, member.link)
    elif kind == tar_format.SYMLINK:
        if not member.link:
            raise FormatError("it is a symlink to nothing")
        target.symlink(path, member.link, attributes_of(member))
    else:
        _special(target, path, member)


def _hide(target: Target, directory: bytes, name: bytes) -> None:
    """Turn a whiteout or opaque marker into overlayfs's own."""
    hidden = name[len(WHITEOUT_PREFIX) :]
    if hidden in (b"", b".", b".."):
        raise FormatError("it is a whiteout of no name")
    parent = target.existing(directory)
    if parent is None:
        return  # in a directory that is not there, nothing is hidden
    if name == OPAQUE_MARKER:
        target.opaque(parent)
    elif not name.startswith(_AUFS_PREFIX):
        target.whiteout(join(parent, hidden))


def _regular(target: Target, path: bytes, member: Member, reader: Reader) -> None:
    attributes = attributes_of(member)
    target.expect(member)
    file = target.place(path, lambda parent, name: os.open(name, _CREATE, 0o600, dir_fd=parent))
    try:
        if member.sparse is None:
            for data in reader.data():
                write_all(file, data)
        else:
            _scatter(file, member, reader)
        dress(file, attributes)
    finally:
        os.close(file)


def _scatter(file: int, member: Member, reader: Reader) -> None:
    """Write the data of a sparse file where they belong."""
    assert member.sparse is not None
    os.ftruncate(file, member.sparse.size)
    pieces = iter(member.sparse.pieces)
    offset = left = 0
    for data in reader.data():
        while data:
            if not left:
                offset, left = next(pieces)
            written = os.pwrite(file, data[:left], offset)
            offset += written
            left -= written
            data = data[written:]


def _hard_link(target: Target, path: bytes, link: bytes) -> None:
    parts = name_parts(link)
    above = target.existing(b"/".join(parts[:-1])) if parts else None
    if above is None or not target.link(join(above, parts[-1]), path):
        raise FormatError(f"it is a hard link to {os.fsdecode(link[:200])!r}, which does not exist")


def _special(target: Target, path: bytes, member: Member) -> None:
    attributes = attributes_of(member)
    major, minor = member.device
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise FormatError(f"no device has the number {major}:{minor}")
    if member.kind == tar_format.FIFO:
        target.fifo(path, attributes)
    elif member.kind == tar_format.CHARACTER:
        target.device(path, S_IFCHR, os.makedev(major, minor), attributes)
    elif member.kind == tar_format.BLOCK_DEVICE:
        target.device(path, S_IFBLK, os.makedev(major, minor), attributes)
    else:
        raise FormatError(f"its type {member.kind!r} is not one of a layer's")
