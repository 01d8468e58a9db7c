"""Which ids of files this process can give, and which namespace of attributes overlayfs marks its upperdirs
in.

Root of the machine can give all of them, and overlayfs keeps its marks in `trusted.overlay.*`. In a user
namespace (user_namespaces(7)) only those ids exist that are mapped into it, and the marks are in
`user.overlay.*` (overlayfs.rst, "userxattr").
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Ranges: TypeAlias = tuple[tuple[int, int], ...]
    """(first id in this namespace, how many)."""

_WHOLE = ((0, 0xFFFFFFFF),)
_FIRST_NAMESPACE = 0xEFFFFFFD
"""PROC_USER_INIT_INO of the kernel's include/linux/proc_ns.h."""
SYS_ADMIN = 1 << 21
"""CAP_SYS_ADMIN, which mounts take."""
_known: dict[str, Ranges] = {}


_machines: bool | None = None


def forget() -> None:
    """Look again at the next question: this process has entered another user namespace."""
    global _machines
    _known.clear()
    _machines = None


def confined() -> bool:
    """Return whether this process lacks the machine's root: another user, in a user namespace, or root of a
    container that may make no mounts but in a user namespace of its own.
    """
    global _machines
    if _machines is None:
        _machines = mapped("uid") == _WHOLE and _in_first_namespace() and bool(capabilities() & SYS_ADMIN)
    return os.geteuid() != 0 or not _machines


def capabilities() -> int:
    """Return the mask of effective capabilities (capabilities(7))."""
    return int(status("CapEff") or "0", 16)


def status(name: str) -> str:
    """Return a line of this process's status (proc_pid_status(5)), "" if there is none."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith(name + ":"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def _in_first_namespace() -> bool:
    """A user namespace may have all ids mapped; the machine's own has an inode that no other has."""
    try:
        return os.stat("/proc/self/ns/user").st_ino == _FIRST_NAMESPACE
    except OSError:  # a kernel without user namespaces
        return True


def mapped(kind: str) -> Ranges:
    """Return the ids of `kind` ("uid" or "gid") that are mapped into this user namespace."""
    ranges = _known.get(kind)
    if ranges is None:
        try:
            with open(f"/proc/self/{kind}_map", encoding="ascii") as table:
                lines = [line.split() for line in table]
        except OSError:  # no /proc, or a kernel without user namespaces
            ranges = _WHOLE
        else:
            ranges = tuple((int(first), int(count)) for first, _, count in lines)
        _known[kind] = ranges
    return ranges


def holds(uid: int, gid: int) -> bool:
    """Return whether a file can be given to this owner."""
    return _in(uid, mapped("uid")) and _in(gid, mapped("gid"))


def single() -> bool:
    """Return whether but one id is mapped into this user namespace."""
    return sum(count for _, count in mapped("uid")) == 1


def may_set_groups() -> bool:
    """Return whether setgroups(2) is allowed in this user namespace."""
    try:
        with open("/proc/self/setgroups", encoding="ascii") as file:
            return file.read().strip() != "deny"
    except OSError:
        return True


def overlay_attribute(name: str) -> str:
    """Return the whole name of overlayfs's extended attribute `name`, such as `opaque`."""
    return f"{'user' if confined() else 'trusted'}.overlay.{name}"


def _in(number: int, ranges: Ranges) -> bool:
    return any(first <= number < first + count for first, count in ranges)
