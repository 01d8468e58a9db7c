"""Whether a user may do something to a file, by its mode bits (path_resolution(7), inode(7)). Imported by the
launcher: nothing heavy.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.credentials import Credentials

READ, WRITE, SEARCH = 4, 2, 1
"""As access(2) has them; SEARCH is to execute a file."""


def for_all(mode: int, wanted: int) -> bool:
    """Return whether it does not matter who asks."""
    return wanted & ~(mode & mode >> 3 & mode >> 6) == 0


def allows(mode: int, owner: tuple[int, int], who: Credentials, wanted: int) -> bool:
    """Return whether a file with these mode bits and this owner lets `who` do what is `wanted` of it."""
    if who.uids[1] == 0:
        return True
    if owner[0] == who.uids[1]:
        bits = mode >> 6
    elif in_group(owner[1], who):
        bits = mode >> 3
    else:
        bits = mode
    return wanted & ~bits == 0


def in_group(gid: int, who: Credentials) -> bool:
    """Return whether `who` is in the group."""
    return gid == who.gids[1] or gid in who.groups


def may_take_away(directory: tuple[int, tuple[int, int]], owner: tuple[int, int], who: Credentials) -> bool:
    """Return whether `who` may remove or rename a file of `owner` in a directory with this mode and owner,
    where it may write: of a sticky one, only what is its own.
    """
    mode, holder = directory
    return not mode & stat.S_ISVTX or who.uids[1] in (0, owner[0], holder[0])
