"""Who --chown, and a WORKDIR that must be made, mean: looked up in the root filesystem's own /etc/passwd
and /etc/group.
"""

from __future__ import annotations

import os
import stat

from builder import linux
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
    else:
        uid, gid, _, _ = identify(owner, _read(root_fd, "etc/passwd"), _read(root_fd, "etc/group"))
    return uid, gid


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
