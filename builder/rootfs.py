"""The root file system that a step sees: its overlay, and what is mounted over it. Runs as pid 1 of the
sandbox.

Everything is done in a private mount namespace, and nothing of it is visible in the host's.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from builder import devices, linux, mountpoints, mounts, network
from builder.errors import HostError
from cache import idmap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.executor import ExecRequest, Mount

    Source = int | None
    """The fd of a bind mount's source, detached; None for what is made within the sandbox."""

_BASE = "/sys"
"""Where a scratch tmpfs and in it the new root are attached until pivot_root: a directory that each host has,
and that no layer or source can be in."""

_STRICT = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV | linux.MOUNT_ATTR_NOEXEC
_READ_ONLY = _STRICT | linux.MOUNT_ATTR_RDONLY

MASKED = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
]
UNWRITABLE = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"]
"""Docker's defaults (moby, oci/defaults.go). Beside them there is thermal_throttle of each processor."""


def clone_sources(request: ExecRequest) -> list[Source]:
    """Return the sources of the request's bind mounts as detached mounts.

    To be called before the mount namespace is unshared: a mount of one namespace cannot be cloned from
    another.
    """
    return [_clone_source(mount) for mount in request.mounts]


def _clone_source(mount: Mount) -> Source:
    if mount.kind != "bind" or not isinstance(mount.source, (str, int)):
        return None
    # Nothing stays open: these are directories of the host's.
    opened: list[int] = []
    try:
        if isinstance(mount.source, str):
            source = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
            opened.append(source)
        else:
            source = mount.source
        if mount.subpath:
            source = mounts.open_in(source, mount.subpath)
            opened.append(source)
        return mounts.clone(source, recursive=True)
    except OSError as error:
        if error.errno == errno.EINVAL and isinstance(mount.source, int) and not mount.subpath:
            return mount.source  # a detached mount, which Linux before 6.15 attaches but does not clone
        raise _unusable(mount, error) from None
    finally:
        for fd in opened:
            os.close(fd)


def build(request: ExecRequest, sources: Sequence[Source]) -> None:
    """Mount everything and make it this process's root. The mount namespace must be private and this
    process's own.
    """
    has_cgroup2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")  # v2 alone, not the hybrid of v1 and v2
    host_sys = _host_sys()
    _attach_scratch(request)
    made = [_make(number, mount, sources[number]) for number, mount in enumerate(request.mounts)]
    root = _mount_root(request, made)
    _mount_proc(root, request.privileged)
    _mount_sys(root, request, has_cgroup2, host_sys)
    if not request.privileged:
        _mask(root)
    devices.attach(root, "dev", "nodes", shm_size=request.shm_size, privileged=request.privileged)
    _mount_etc(root, request)
    for mount, fd in zip(request.mounts, made, strict=True):
        _mount_one(root, request, mount, fd)
    enter(root)


def enter(root: int) -> None:
    """Make the mount `root` the root directory, and let go of the old one: pivot_root(2),
    `pivot_root(".", ".")`.
    """
    os.fchdir(root)
    linux.pivot_root(".", ".")
    linux.umount2(".", linux.MNT_DETACH)
    os.chdir("/")
    os.close(root)


def _attach_scratch(request: ExecRequest) -> None:
    """Make a tmpfs for everything that is in memory, and go there. Secrets may be in it: it is not
    swapped (Linux 6.4).
    """
    size = (64 << 20) + sum(len(mount.data) for mount in request.mounts)
    options = [("mode", "755"), ("size", str(size)), ("noswap", "")]
    try:
        scratch = mounts.filesystem("tmpfs", options, linux.MOUNT_ATTR_NOSUID)
    except OSError:
        scratch = mounts.filesystem("tmpfs", options[:2], linux.MOUNT_ATTR_NOSUID)
    mounts.attach(scratch, os.open(_BASE, os.O_PATH | os.O_CLOEXEC))
    os.chdir(_BASE)
    for name in ("root", "lower", "dev", "nodes", "files", "sources"):
        os.mkdir(name)
    devices.make_nodes("nodes")
    points = [*(() if request.privileged else devices.NODES), *(("console",) if request.tty else ())]
    devices.fill("dev", points=points, privileged=request.privileged)


# The request's mounts


def _make(number: int, mount: Mount, source: Source) -> int:
    """Return the mount that is to be attached for `mount`, detached, with its flags."""
    if mount.kind == "tmpfs":
        mode = 0o1777 if mount.mode is None else mount.mode
        return mounts.tmpfs(
            mount.size, mode, _STRICT & ~linux.MOUNT_ATTR_NOEXEC, uid=mount.uid, gid=mount.gid
        )
    if mount.kind == "file":
        return _memory_file(f"files/{number}", mount.data, mount.mode, mount.uid, mount.gid)
    return _mount_overlay(f"sources/{number}", mount) if source is None else source


def _mount_overlay(place: str, mount: Mount) -> int:
    overlay = mount.source
    assert overlay is not None and not isinstance(overlay, (str, int))
    fd = mounts.overlay(overlay.lower, overlay.upper, overlay.work)
    if not mount.subpath:
        return fd
    os.mkdir(place)
    mounts.attach(os.dup(fd), os.open(place, os.O_PATH | os.O_CLOEXEC))
    try:
        return mounts.clone(mounts.open_in(fd, mount.subpath))
    except OSError as error:
        raise _unusable(mount, error) from None


def _memory_file(path: str, data: bytes, mode: int | None, uid: int = 0, gid: int = 0) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        os.fchown(fd, uid, gid)
        os.fchmod(fd, 0o644 if mode is None else mode)
    return mounts.clone(linux.AT_FDCWD, path)


def _mount_one(root: int, request: ExecRequest, mount: Mount, fd: int) -> None:
    flags = 0 if request.privileged else linux.MOUNT_ATTR_NODEV
    flags |= linux.MOUNT_ATTR_RDONLY if mount.read_only else 0
    mounts.restrict(fd, flags, recursive=True)
    path = mountpoints.target_path(request.workdir, mount.target)
    mounts.attach(fd, mountpoints.open_or_make(root, path, stat.S_ISDIR(os.fstat(fd).st_mode)))


def _unusable(mount: Mount, error: OSError) -> HostError:
    source = mount.source if isinstance(mount.source, str) else "source"
    subpath = f" ({mount.subpath})" if mount.subpath else ""
    return HostError(
        f"cannot mount {source}{subpath} on {mount.target}: {str(error.strerror).rpartition(': ')[2]}",
        code="host/mount",
    )


# The overlay


def _mount_root(request: ExecRequest, made: Sequence[int]) -> int:
    """Mount the overlay such that every mount point exists in it. Return its fd."""
    if request.prepared is not None:
        return _attach(mounts.clone(linux.AT_FDCWD, request.prepared), _attributes(request))
    targets = [mountpoints.target_path(request.workdir, mount.target) for mount in request.mounts]
    are_directories = [stat.S_ISDIR(os.fstat(fd).st_mode) for fd in made]
    points = mountpoints.wanted(zip(targets, are_directories, strict=True))
    mountpoints.make("lower", points)
    lowers = (*request.lower, _BASE + "/lower")
    root = _attach_root(request, lowers)
    missing = mountpoints.missing(root, points)
    if not missing:
        return root
    os.mkdir("top")
    mountpoints.make_above("top", "root", root, missing)
    os.close(root)
    linux.umount2("root", linux.MNT_DETACH)
    if request.work is not None:
        mounts.forget_volatile(request.work)
    return _attach_root(request, (_BASE + "/top", *lowers))


def _attach_root(request: ExecRequest, lowers: Sequence[str]) -> int:
    return _attach(mounts.overlay(lowers, request.upper, request.work, _attributes(request)))


def _attributes(request: ExecRequest) -> int:
    """Without nodev, a node of the host's disk that the image brings, or that the command makes, could be
    opened.
    """
    attributes = 0 if request.privileged else linux.MOUNT_ATTR_NODEV
    return attributes | (linux.MOUNT_ATTR_RDONLY if request.upper is None else 0)


def _attach(root: int, attributes: int = 0) -> int:
    if attributes:
        mounts.restrict(root, attributes)
    mounts.attach(os.dup(root), os.open("root", os.O_PATH | os.O_CLOEXEC))
    return root


# What is mounted on it


def _mount_proc(root: int, privileged: bool) -> None:
    mounts.attach(mounts.proc(_STRICT), mountpoints.open_point(root, "/proc", True))
    if privileged:
        return
    for path in UNWRITABLE:
        try:
            point = mounts.open_in(root, path)
        except FileNotFoundError:
            continue
        fd = mounts.clone(point, recursive=True)
        mounts.restrict(fd, _READ_ONLY, recursive=True)
        mounts.attach(fd, point)


def _host_sys() -> int | None:
    """Return the host's /sys, where the kernel would not mount a new one: a user namespace may have that of
    its own network only, and in a container that masks its own none. To be called before something is
    attached there.
    """
    return mounts.clone(linux.AT_FDCWD, "/sys", recursive=True) if idmap.confined() else None


def _mount_sys(root: int, request: ExecRequest, has_cgroup2: bool, host: int | None) -> None:
    attributes = _STRICT if request.privileged else _READ_ONLY
    point = mountpoints.open_point(root, "/sys", True)
    own: int | None = None
    if host is None or request.network != "host":
        try:
            own = mounts.filesystem("sysfs", (), attributes)
        except PermissionError:
            if host is None:
                raise
    if own is None:
        assert host is not None
        mounts.restrict(host, attributes, recursive=True)
        mounts.attach(host, point)
        return
    if host is not None:
        os.close(host)
    mounts.attach(own, point)
    if has_cgroup2:
        mounts.attach(mounts.filesystem("cgroup2", (), attributes), mounts.open_in(root, "sys/fs/cgroup"))


def _mask(root: int) -> None:
    """Cover what tells of the host, or could change it: directories with an empty one, files with
    /dev/null.
    """
    os.mkdir("files/empty", 0o555)
    for path in (*MASKED, *_throttles(root)):
        try:
            point = mounts.open_in(root, path)
        except FileNotFoundError:
            continue
        is_directory = stat.S_ISDIR(os.fstat(point).st_mode)
        fd = mounts.clone(linux.AT_FDCWD, "files/empty" if is_directory else "nodes/null")
        mounts.restrict(fd, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOEXEC)
        mounts.attach(fd, point)


def _throttles(root: int) -> list[str]:
    """Return the counters of heat of all processors: like /proc/interrupts, they tell what the host does."""
    above = "sys/devices/system/cpu"
    try:
        os.close(mounts.open_in(root, f"{above}/cpu0/thermal_throttle"))
        fd = mounts.open_in(root, above)
    except FileNotFoundError:
        return []
    try:
        names = os.listdir(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return [f"{above}/{name}/thermal_throttle" for name in names if name[3:].isdecimal()]


def _mount_etc(root: int, request: ExecRequest) -> None:
    texts = (
        network.resolver(private=request.network == "private"),
        network.hosts(request.hostname, request.extra_hosts),
        request.hostname + "\n",
    )
    for path, text in zip(mountpoints.FILES, texts, strict=True):
        fd = _memory_file("files/" + os.path.basename(path), text.encode(errors="surrogateescape"), None)
        mounts.attach(fd, mountpoints.open_point(root, path, False))
