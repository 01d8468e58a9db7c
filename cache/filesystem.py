"""Whether a file system can hold an overlay's upperdir: what can be seen before a mount is tried."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from cache.idmap import overlay_attribute

if TYPE_CHECKING:
    from cache.scratch import Scratch

_UNFIT = {
    "overlay": "an overlay cannot be the upper layer of another overlay",
    "aufs": "it is a union file system itself",
    "nfs": "NFS has neither whiteouts nor trusted extended attributes",
    "nfs4": "NFS has neither whiteouts nor trusted extended attributes",
    "cifs": "SMB has no whiteouts",
    "smb3": "SMB has no whiteouts",
    "9p": "9p has no whiteouts",
    "virtiofs": "virtiofs has no whiteouts",
    "ceph": "CephFS has no whiteouts",
    "ecryptfs": "eCryptfs cannot be an upper layer",
    "vfat": "FAT has no owners, modes or symbolic links",
    "exfat": "exFAT has no owners, modes or symbolic links",
    "msdos": "FAT has no owners, modes or symbolic links",
    "ramfs": "ramfs has no extended attributes",
    "squashfs": "it cannot be written to",
    "iso9660": "it cannot be written to",
    "erofs": "it cannot be written to",
}
"""Kernel's names of file systems (proc_pid_mountinfo(5)) -> why overlayfs refuses them as upperdir
(Documentation/filesystems/overlayfs.rst: whiteouts, trusted.* or user.* xattrs, valid d_type)."""


def upperdir_problem(root: str, scratch: Scratch) -> str | None:
    """Return in words why a directory of the store cannot be an overlay's upperdir, None if nothing speaks
    against it.

    Looks at the type of the file system, then makes a whiteout and sets the attribute of an opaque directory
    in a staging directory. What only a mount can tell is left to it. Raises StoreError where even that cannot
    be done.
    """
    kind = file_system(root)
    reason = _UNFIT.get(kind)
    if reason is not None:
        return f"{root} is on {kind}: {reason}"
    with scratch.stage() as staging:
        problem = _whiteout(staging.upper) or _opaque(staging.upper) or _file_types(staging.upper)
    return None if problem is None else f"{root} is on {kind}: {problem}"


def file_system(path: str) -> str:
    """Return the kernel's name of the file system that holds `path`, "" if /proc does not say.

    By the longest mount point that leads to it: the device number alone is not that of the mount on btrfs.
    """
    path = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            lines = table.readlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split(" ")
        point = _unescape(fields[4])
        under = path == point or path.startswith(point.rstrip("/") + "/")
        if under and len(point) >= len(best):  # of two on one point, the later one covers the earlier
            best, kind = point, fields[fields.index("-") + 1]
    return kind


def _whiteout(directory: str) -> str | None:
    path = directory + "/whiteout"
    try:
        os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
    except OSError as error:
        return f"no whiteout can be made there ({error.strerror})"
    os.unlink(path)
    return None


def _opaque(directory: str) -> str | None:
    name = overlay_attribute("opaque")
    try:
        os.setxattr(directory, name, b"y")
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM):
            return f"the extended attribute {name} cannot be set there ({error.strerror})"
        raise
    return None


def _file_types(directory: str) -> str | None:
    """overlayfs needs readdir(3) to tell types: without it whiteouts would be seen (XFS made with
    ftype=0)."""
    os.mkdir(directory + "/directory")
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name == "directory" and _d_type_unknown(entry):
                return "it does not tell the types of directory entries (ftype=0): make it anew with ftype=1"
    return None


def _d_type_unknown(entry: os.DirEntry[str]) -> bool:
    # DirEntry falls back to a stat where d_type is unknown; once the entry is gone that fails, and a known
    # type does not need it.
    os.rmdir(entry.path)
    try:
        return not entry.is_dir(follow_symlinks=False)
    except OSError:
        return True


def _unescape(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
