"""Users and groups by name, looked up in a root filesystem's own /etc/passwd and /etc/group (passwd(5),
group(5)).
"""

from __future__ import annotations

import os

from builder import linux
from builder.errors import PlanError

_MAX_BYTES = 1 << 20


def resolve_owner(root_fd: int, owner: str) -> tuple[int, int]:
    """Return uid and gid that `owner` (`name`, `uid`, `name:group`, `uid:gid`) means below `root_fd`.

    A user alone gives its own number as the group too when it is a number (as BuildKit has it for --chown),
    and its primary group when it is a name. Raises PlanError for a name that is not there.
    """
    user, mark, group = owner.partition(":")
    uid, gid = _user(root_fd, user)
    return uid, _group(root_fd, group) if mark and group else gid


def _user(root_fd: int, user: str) -> tuple[int, int]:
    if user.isdecimal():
        return int(user), int(user)
    if not user:
        return 0, 0
    for fields in _table(root_fd, "etc/passwd"):
        if len(fields) >= 4 and fields[0] == user and fields[2].isdecimal() and fields[3].isdecimal():
            return int(fields[2]), int(fields[3])
    raise PlanError(
        f"there is no user {user!r} in the image's /etc/passwd",
        code="user/unknown",
        hint="RUN useradd first, or give a number",
    )


def _group(root_fd: int, group: str) -> int:
    if group.isdecimal():
        return int(group)
    for fields in _table(root_fd, "etc/group"):
        if len(fields) >= 3 and fields[0] == group and fields[2].isdecimal():
            return int(fields[2])
    raise PlanError(
        f"there is no group {group!r} in the image's /etc/group",
        code="user/unknown",
        hint="RUN groupadd first, or give a number",
    )


def _table(root_fd: int, path: str) -> list[list[str]]:
    try:
        fd = linux.openat2(root_fd, path, os.O_RDONLY | os.O_NONBLOCK, resolve=linux.RESOLVE_IN_ROOT)
    except OSError:
        return []
    with open(fd, "rb") as file:
        text = file.read(_MAX_BYTES).decode("utf-8", "surrogateescape")
    return [line.split(":") for line in text.split("\n")]
