"""The host's own tree as a root, for a program of the host such as mmdebstrap. Runs as pid 1 of the sandbox.

It keeps such a program from changing the host by accident. It is no wall: the program has every capability.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from builder import linux, mountpoints, mounts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.executor import ExecRequest

_STRICT = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV


def build(request: ExecRequest, sources: Sequence[int | None]) -> None:
    """Make everything read-only, /tmp and /dev/shm private, and mount what the request asks for.

    The mount namespace must be private and this process's own. Device nodes can be made and opened in what is
    mounted.
    """
    # Before that: where it is the container's own, what acts for a single id has to write through it.
    proc = mounts.proc(_STRICT | linux.MOUNT_ATTR_NOEXEC)
    linux.mount_setattr(linux.AT_FDCWD, "/", linux.AT_RECURSIVE, linux.MOUNT_ATTR_RDONLY)
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    _attach(root, "/proc", proc)
    _attach(root, "/tmp", mounts.tmpfs(None, 0o1777, _STRICT))
    _attach(root, "/dev/shm", mounts.tmpfs(request.shm_size, 0o1777, _STRICT))
    for mount, source in zip(request.mounts, sources, strict=True):
        if mount.kind == "tmpfs":
            mode = 0o1777 if mount.mode is None else mount.mode
            source = mounts.tmpfs(mount.size, mode, _STRICT, uid=mount.uid, gid=mount.gid)
        if source is None:
            raise mountpoints.failure(
                mount.target, "the host as root takes binds of directories and tmpfs only"
            )
        if mount.read_only:
            mounts.restrict(source, linux.MOUNT_ATTR_RDONLY, recursive=True)
        _attach(root, mountpoints.target_path(request.workdir, mount.target), source)
    os.close(root)


def _attach(root: int, path: str, mount: int) -> None:
    is_directory = stat.S_ISDIR(os.fstat(mount).st_mode)
    mounts.attach(mount, mountpoints.open_or_make(root, path, is_directory))
