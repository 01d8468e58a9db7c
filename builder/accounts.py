"""Who --chown, and a WORKDIR that must be made, mean: looked up in the root filesystem's own /etc/passwd
and /etc/group.
"""

from __future__ import annotations

import os
import stat

from builder import linux
from builder.errors import StepFailed
from builder.users import identify

_MAX_BYTES = 16 << 20


def resolve_owner(root_fd: int, owner: str) -> tuple[int, int]:
    """Return uid and gid that `owner` (`name`, `uid`, `name:group`, `uid:gid`, empty for root) means below
    `root_fd`.

    A number alone is the group too, as BuildKit has it for --chown; a name alone brings its primary group.
    Raises StepFailed (step/user) for a name that is not there.
    """
    if owner.isascii() and owner.isdecimal():
        uid, gid, _, _ = identify(f"{owner}:{owner}", "", "")
        return uid, gid
    passwd, group = _read(root_fd, "etc/passwd"), _read(root_fd, "etc/group")
    try:
        uid, gid, _, _ = identify(owner, passwd, group)
    except StepFailed as error:
        error.hint = _hint(owner, passwd, group, error.hint)
        raise
    return uid, gid


def identity_of(root_fd: int, user: str) -> tuple[int, int]:
    """Return uid and gid that USER `user` means below `root_fd`: a number brings its group from /etc/passwd.
    Raises StepFailed.
    """
    uid, gid, _, _ = identify(user, _read(root_fd, "etc/passwd"), _read(root_fd, "etc/group"))
    return uid, gid


def _hint(owner: str, passwd: str, group: str, otherwise: str | None) -> str | None:
    """Return what to do about a name that is not there."""
    user, _, group_name = owner.partition(":")
    for name, text, file in ((user, passwd, "passwd"), (group_name, group, "group")):
        names = [line.partition(":")[0] for line in text.splitlines()]
        if not name or name in names or name.isdecimal():
            continue
        if not text:
            return f"there is no /etc/{file} to look in (nor is there with --link): write the number"
        from grammar.suggest import did_you_mean

        return did_you_mean(name, names) or otherwise
    return otherwise


def _read(root_fd: int, path: str) -> str:
    try:
        fd = linux.openat2(root_fd, path, os.O_RDONLY | os.O_NONBLOCK, resolve=linux.RESOLVE_IN_ROOT)
    except OSError:
        return ""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return ""
    with open(fd, "rb") as file:
        return file.read(_MAX_BYTES).decode("utf-8", "surrogateescape")
