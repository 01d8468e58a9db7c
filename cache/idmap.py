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
_known: dict[str, Ranges] = {}


def forget() -> None:
    """Look again at the next question: this process has entered another user namespace."""
    _known.clear()


def confined() -> bool:
    """Return whether this process lacks the machine's root: another user, or in a user namespace."""
    return os.geteuid() != 0 or mapped("uid") != _WHOLE


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
