"""Owners, and devices, that the file system cannot hold: recorded beside the file, for the layer tar to tell.

In a user namespace with few ids (see `cache.idmap`) a file can be given to none but those, and no device can
be made. A regular file or directory keeps what it should be in an extended attribute, which overlayfs copies
up and a rename takes along:

    user.pybuild.owner   "UID:GID HELD_UID:HELD_GID": whose it is; true while the file system has it held by
    HELD user.pybuild.device  "c 1:3", on an empty regular file: the device that it stands for

What cannot have such attributes (symbolic links, fifos) stands in a table beside the changeset (`TABLE`).
With all ids mapped nothing is ever recorded, and none of these attributes means anything.
"""

from __future__ import annotations

import errno
import os
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFMT, S_IFREG

from cache import idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cache.merged import Merged

OWNER = "user.pybuild.owner"
DEVICE = "user.pybuild.device"
TABLE = ".owners"
"""What the name of a changeset's table ends in: entries `UID:GID PATH`, each ended by a NUL, sorted by
path.
"""

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LETTERS = {"b": S_IFBLK, "c": S_IFCHR}


def is_record(name: bytes) -> bool:
    """Whether the extended attribute `name` is a record here, and so no part of the file's content."""
    return name in (OWNER.encode(), DEVICE.encode()) and idmap.confined()


def give(file: int | str, uid: int, gid: int, *, directory: int | None = None) -> bool:
    """Give a file to an owner, or record that. `file` is an open descriptor, or a name in `directory` that is
    not followed. Return whether that is done: what has no attributes is left to the caller's table.
    """
    held = idmap.holds(uid, gid)
    owner = (uid, gid) if held else (0, 0)
    if isinstance(file, int):
        os.fchown(file, *owner)
        if idmap.confined():
            _record(file, uid, gid)
        return True
    os.chown(file, *owner, dir_fd=directory, follow_symlinks=False)
    if not idmap.confined():
        return True
    kind = S_IFMT(os.lstat(file, dir_fd=directory).st_mode)
    if kind not in (S_IFREG, S_IFDIR):
        return held
    fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        _record(fd, uid, gid)
    finally:
        os.close(fd)
    return True


def record(file: str | int, uid: int, gid: int, status: os.stat_result) -> None:
    """Note at a regular file or directory with `status` whose it should be; nothing where it is so."""
    if (uid, gid) == (status.st_uid, status.st_gid):
        try:
            os.removexattr(file, OWNER)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
        return
    os.setxattr(file, OWNER, f"{uid}:{gid} {status.st_uid}:{status.st_gid}".encode())


def _record(fd: int, uid: int, gid: int) -> None:
    record(fd, uid, gid, os.fstat(fd))


def recorded(file: int | str, status: os.stat_result) -> tuple[int, int]:
    """Return whose the regular file or directory is: as recorded, else as the file system has it."""
    value = _attribute(file, OWNER)
    if value is not None:
        try:
            owner, held = value.decode("ascii").split(" ")
            if held == f"{status.st_uid}:{status.st_gid}":
                uid, gid = owner.split(":")
                return int(uid), int(gid)
        except ValueError:
            pass  # not by us
    return status.st_uid, status.st_gid


def owner_at(root: int, path: bytes, status: os.stat_result) -> tuple[int, int]:
    """Return whose `path`, below the changeset that is open as `root`, is: as recorded, else as in
    `status`.
    """
    if not idmap.confined():
        return status.st_uid, status.st_gid
    if S_IFMT(status.st_mode) not in (S_IFREG, S_IFDIR):
        return read_table(root).get(path, (status.st_uid, status.st_gid))
    fd = os.open(path or b".", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    try:
        return recorded(fd, status)
    finally:
        os.close(fd)


def make_device(name: str | bytes, kind: int, number: int, directory: int) -> None:
    """Make a device in `directory`, or an empty file that stands for one where none can be made."""
    try:
        os.mknod(name, kind | 0o600, number, dir_fd=directory)
        return
    except PermissionError:
        if not idmap.confined():
            raise
    letter = "b" if kind == S_IFBLK else "c"
    fd = os.open(name, _CREATE, 0o600, dir_fd=directory)
    try:
        os.setxattr(fd, DEVICE, f"{letter} {os.major(number)}:{os.minor(number)}".encode())
    finally:
        os.close(fd)


def make_special(name: str, mode: int, number: int, directory: int) -> None:
    """Make a fifo, or a device as `make_device` does."""
    if S_IFMT(mode) in (S_IFCHR, S_IFBLK):
        make_device(name, S_IFMT(mode), number, directory)
    else:
        os.mknod(name, mode, number, dir_fd=directory)


def path_of(root: int, directory: int, name: str) -> bytes:
    """Return the path from the directory open as `root` of `name` in one open as `directory` below it."""
    top, place = (os.readlink(f"/proc/self/fd/{fd}") for fd in (root, directory))
    return os.fsencode(os.path.join(place.removeprefix(top), name)).lstrip(b"/")


def adopt(upper: int, below: Merged, owner: tuple[int, int]) -> None:
    """Record `owner` for what is new in the changeset `upper`, where nothing else is recorded.

    For a step that ran as a user whose id does not exist here: all that it made looks like root's.
    """
    from cache.upperdir import walk

    table = read_table(upper)
    for entry in walk(upper):
        status = entry.status
        if entry.whiteout or _same_kind(below, entry.path, status):
            continue
        if S_IFMT(status.st_mode) not in (S_IFREG, S_IFDIR):
            table.setdefault(entry.path, owner)
            continue
        place = f"/proc/self/fd/{upper}/{os.fsdecode(entry.path)}"
        if _attribute(place, OWNER) is None:
            record(place, *owner, status)
    write_table(os.readlink(f"/proc/self/fd/{upper}"), table)


def _same_kind(below: Merged, path: bytes, status: os.stat_result) -> bool:
    found = below.lookup(path)
    return found is not None and S_IFMT(found.status.st_mode) == S_IFMT(status.st_mode)


def device(file: int | str) -> tuple[int, int] | None:
    """Return the kind (S_IFCHR, S_IFBLK) and number of the device that an empty file stands for, None if
    none.
    """
    value = _attribute(file, DEVICE)
    if value is None:
        return None
    try:
        letter, number = value.decode("ascii").split(" ")
        major, minor = number.split(":")
        return _LETTERS[letter], os.makedev(int(major), int(minor))
    except (ValueError, KeyError):
        return None


def _attribute(file: int | str, name: str) -> bytes | None:
    try:
        return os.getxattr(file, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise


def read_table(changeset: int) -> dict[bytes, tuple[int, int]]:
    """Return the owners of what has no attributes in the directory that is open as `changeset`, by path."""
    if not idmap.confined():
        return {}
    try:
        with open(os.readlink(f"/proc/self/fd/{changeset}") + TABLE, "rb") as file:
            entries = file.read().split(b"\0")
    except FileNotFoundError:
        return {}
    found = {}
    for entry in filter(None, entries):
        owner, _, path = entry.partition(b" ")
        uid, _, gid = owner.partition(b":")
        found[path] = int(uid), int(gid)
    return found


def write_table(
    changeset: str, owners: Mapping[bytes, tuple[int, int]], *, directory: int | None = None
) -> None:
    """Write the table of a changeset, a path or a name in `directory`; an empty one is none."""
    if not owners:
        return
    fd = os.open(
        changeset + TABLE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644, dir_fd=directory
    )
    with open(fd, "wb") as file:
        file.write(b"".join(b"%d:%d %s\0" % (*owner, path) for path, owner in sorted(owners.items())))
