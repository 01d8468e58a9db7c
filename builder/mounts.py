"""Mounts that are attached nowhere yet: each function returns the fd of one (fsmount(2), open_tree(2)).

Whatever is not attached dies with its fd. Imported by the launcher: nothing heavy, no dataclasses.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder import linux
from builder.errors import HostError
from cache import idmap

if TYPE_CHECKING:
    from collections.abc import Sequence

OLDEST_KERNEL = (6, 7)
"""The first whose overlays know `lowerdir+`, which a list of lowers of any length needs."""

MAX_LOWERS = 500
"""OVL_MAX_STACK of fs/overlayfs/params.h."""

OVERLAY_OPTIONS = (
    ("redirect_dir", "nofollow"),
    ("index", "off"),
    ("metacopy", "off"),
    ("xino", "off"),
    ("uuid", "null"),
)
"""Each layer must be whole by itself: no redirects or metadata-only copies into the layers below it. An index
and xino serve NFS export and persistent inode numbers, which a build does not need. A UUID would be written
into the upper directory."""

MOST_LAYERS = 2 * MAX_LOWERS - 1
"""One overlay may be the lowest layer of another, and no deeper: FILESYSTEM_MAX_STACK_DEPTH is 2."""

_LONGEST_STRING = 255  # of fsconfig(2)


def filesystem(kind: str, options: Sequence[tuple[str, str]] = (), attributes: int = 0) -> int:
    """Return a new mount of a file system of `kind`. An option with an empty value is a flag."""
    fd = linux.fsopen(kind)
    try:
        for key, value in options:
            if value:
                linux.fsconfig_string(fd, key, value)
            else:
                linux.fsconfig_flag(fd, key)
        return linux.fsmount(fd, attributes)
    finally:
        os.close(fd)


def tmpfs(size: int | None, mode: int, attributes: int = 0, *, uid: int = 0, gid: int = 0) -> int:
    """Return an empty file system in memory of `size` bytes at most, None for the kernel's half of the
    memory.
    """
    options = [("mode", f"{mode:o}"), ("uid", str(uid)), ("gid", str(gid))]
    if size is not None:
        options.append(("size", str(size)))
    return filesystem("tmpfs", options, attributes)


def proc(attributes: int) -> int:
    """Return a proc of this pid namespace; in a container that masks its own, that one. A user namespace may
    have none that shows more than what it has already (mount_namespaces(7)).

    It shows the container's processes, too, without a way to them: they have other capabilities, or another
    namespace.
    """
    try:
        return filesystem("proc", (), attributes)
    except PermissionError:
        if not idmap.confined():
            raise
    return clone(linux.AT_FDCWD, "/proc", recursive=True)


def overlay(lower: Sequence[str], upper: str | None, work: str | None, attributes: int = 0) -> int:
    """Return an overlay of `lower`, absolute paths, top first. Raises HostError where the kernel refuses it.

    It is volatile (overlayfs.rst, "Volatile mount"): otherwise each unmount would sync the whole upper file
    system.
    """
    if len(lower) > MOST_LAYERS:
        raise HostError(
            f"{len(lower)} layers are too many: an overlay takes {MOST_LAYERS}",
            code="host/overlay",
            hint="join some of its steps into one",
        )
    try:
        fd = linux.fsopen("overlay")
    except OSError as error:
        raise HostError(
            f"this kernel has no overlay file system ({error.strerror})",
            code="host/overlay",
            hint="load it with `modprobe overlay`; pybuild needs Linux 6.7 or newer",
        ) from None
    opened: list[int] = []
    try:
        _add_lowers(fd, lower, upper is None, opened)
        for key, value in OVERLAY_OPTIONS:
            linux.fsconfig_string(fd, key, value)
        if idmap.confined():
            linux.fsconfig_flag(fd, "userxattr")
        if upper is not None and work is not None:
            linux.fsconfig_string(fd, "upperdir", _short(upper, opened))
            linux.fsconfig_string(fd, "workdir", _short(work, opened))
            linux.fsconfig_flag(fd, "volatile")
        return linux.fsmount(fd, attributes)
    except OSError as error:
        raise _refused(fd, error) from None
    finally:
        for each in (fd, *opened):
            os.close(each)


def forget_volatile(work: str) -> None:
    """Take from `work` the mark that a volatile overlay was mounted with it: the kernel would refuse
    another.
    """
    mark = f"{work}/work/incompat"
    os.unlink(f"{mark}/volatile/dirty")
    os.rmdir(f"{mark}/volatile")
    os.rmdir(mark)


def _add_lowers(fd: int, lower: Sequence[str], alone: bool, opened: list[int]) -> None:
    for path in lower[: MAX_LOWERS - 1] if len(lower) > MAX_LOWERS else lower:
        linux.fsconfig_string(fd, "lowerdir+", _short(path, opened))
    if len(lower) > MAX_LOWERS:
        # The lowest layers can be one overlay in another: below them there is nothing that their whiteouts
        # still hide.
        nested = overlay(lower[MAX_LOWERS - 1 :], None, None)
        opened.append(nested)
        linux.fsconfig_string(fd, "lowerdir+", f"/proc/self/fd/{nested}")
    elif alone and len(lower) < 2:
        # The kernel wants two lowers where there is no upper, and no directory twice: an empty one goes
        # below.
        empty = tmpfs(4096, 0o755)
        opened.append(empty)
        linux.fsconfig_string(fd, "lowerdir+", f"/proc/self/fd/{empty}")


def _short(path: str, opened: list[int]) -> str:
    """Return `path`, or a name of it that fsconfig(2) takes where it is too long."""
    if len(os.fsencode(path)) <= _LONGEST_STRING:
        return path
    opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return f"/proc/self/fd/{opened[-1]}"


def _refused(fd: int, error: OSError) -> HostError:
    """Return what the kernel has against an overlay, in the words that it left in the fd (fsopen(2))."""
    words: list[str] = []
    while True:
        try:
            words.append(os.read(fd, 4096).decode(errors="replace").partition(" ")[2].strip())
        except OSError:
            break
    hint = "the store must be on a file system such as ext4, xfs or btrfs; `dmesg | tail` may say more"
    release = os.uname().release
    if tuple(int(word) for word in release.split("-")[0].split(".")[:2]) < OLDEST_KERNEL:
        hint = f"overlays take their lower directories one by one since Linux 6.7; this is {release}"
    reason = "; ".join(words) or f"{error.strerror}{f' ({error.filename})' if error.filename else ''}"
    return HostError(f"the kernel refuses the overlay: {reason}", code="host/overlay", hint=hint)


def clone(fd: int, path: str = "", *, recursive: bool = False) -> int:
    """Return a bind mount of what is at `path` under `fd`; of `fd` itself for an empty path."""
    flags = linux.OPEN_TREE_CLONE | (0 if path else linux.AT_EMPTY_PATH)
    return linux.open_tree(fd, path, flags | (linux.AT_RECURSIVE if recursive else 0))


def restrict(fd: int, attributes: int, *, recursive: bool = False) -> None:
    """Set MOUNT_ATTR_* flags on the mount `fd`."""
    linux.mount_setattr(fd, "", linux.AT_EMPTY_PATH | (linux.AT_RECURSIVE if recursive else 0), attributes)


def attach(fd: int, target: int) -> None:
    """Attach the mount `fd` on what `target` is open on, and close both."""
    try:
        linux.move_mount(fd, target)
    finally:
        os.close(fd)
        os.close(target)


def open_in(root: int, path: str, flags: int = os.O_PATH, *, follow: bool = True) -> int:
    """Open `path` with `root` as the root directory: no symbolic link and no `..` leads out of it.

    With `follow` false, a symbolic link anywhere in it is ELOOP.
    """
    resolve = linux.RESOLVE_IN_ROOT | (0 if follow else linux.RESOLVE_NO_SYMLINKS)
    return linux.openat2(root, path, flags, resolve | linux.RESOLVE_NO_MAGICLINKS)
