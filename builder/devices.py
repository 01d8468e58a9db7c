"""A step's /dev: what Docker's has (moby, oci/defaults.go; OCI runtime-spec, config-linux.md). Runs as pid 1
of the sandbox.

The directory itself takes no device: a node that the command makes there, or anywhere, of one of the host's
disks cannot be opened. Each device that it may have is a mount of its own.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from builder import linux, mounts
from cache import idmap

if TYPE_CHECKING:
    from collections.abc import Iterable

NODES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_STRICT = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV | linux.MOUNT_ATTR_NOEXEC
_PTS = (("ptmxmode", "0666"), ("mode", "0620"))
_TTY_GROUP = 5


def make_nodes(directory: str) -> None:
    """Make the device nodes in `directory`, on a mount that takes them. Their modes are the step's own to
    change.
    """
    if idmap.confined():
        _bind_nodes(directory)
        return
    mask = os.umask(0)
    for name, (major, minor) in NODES.items():
        os.mknod(f"{directory}/{name}", 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    os.umask(mask)


def _bind_nodes(directory: str) -> None:
    """Mount the host's nodes in `directory`: none can be made in a user namespace."""
    for name in NODES:
        place = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        mounts.attach(mounts.clone(linux.AT_FDCWD, f"/dev/{name}"), place)


def fill(directory: str, *, points: Iterable[str], privileged: bool) -> None:
    """Make everything in `directory` that is to be /dev: links, mount points; for a privileged step the
    host's devices.
    """
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{directory}/{name}")
    for name, target in _LINKS.items():
        os.symlink(target, f"{directory}/{name}")
    for name in points:
        os.close(os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    if privileged:
        _copy_devices("/dev", directory)


def attach(root: int, directory: str, nodes: str, *, shm_size: int, privileged: bool) -> None:
    """Mount /dev, which is `directory`, with the nodes in `nodes`, on the root `root`, and what belongs
    in it.
    """
    device = mounts.clone(linux.AT_FDCWD, directory)
    flags = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NOEXEC
    mounts.restrict(device, flags if privileged else flags | linux.MOUNT_ATTR_NODEV)
    mounts.attach(os.dup(device), mounts.open_in(root, "dev", follow=False))
    for name in NODES:
        if not privileged:
            mounts.attach(mounts.clone(linux.AT_FDCWD, f"{nodes}/{name}"), mounts.open_in(device, name))
    options = (*_PTS, ("gid", str(_TTY_GROUP))) if idmap.holds(0, _TTY_GROUP) else _PTS
    pts = mounts.filesystem("devpts", options, linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NOEXEC)
    mounts.attach(pts, mounts.open_in(device, "pts"))
    mounts.attach(mounts.tmpfs(shm_size, 0o1777, _STRICT), mounts.open_in(device, "shm"))
    mounts.attach(mounts.filesystem("mqueue", (), _STRICT), mounts.open_in(device, "mqueue"))
    os.close(device)


def _copy_devices(source: str, target: str) -> None:
    """Make a node in `target` for each device in `source`, but for those that a step has of its own."""
    for entry in os.scandir(source):
        status = entry.stat(follow_symlinks=False)
        place = f"{target}/{entry.name}"
        if os.path.lexists(place):
            continue
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(place)
            _copy_devices(entry.path, place)
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            os.mknod(place, status.st_mode, status.st_rdev)
            os.chown(place, status.st_uid, status.st_gid)
            os.chmod(place, stat.S_IMODE(status.st_mode))
