"""A control group for one step, where it is to have limits: cgroups(7), the kernel's cgroup-v1/ and
cgroup-v2.rst.

Both versions, and the hybrid of them. The group is made below that which pybuild is in itself (version 1) or
beside it (version 2), so that the limits of what is above hold for steps too. Entering one takes the kernel
milliseconds (it waits for a grace period), which is why a step without limits gets none. The launcher makes
groups and removes them; what a launcher that was killed left is removed by the next one. Imported by the
launcher: nothing heavy.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.executor import ExecRequest

_PREFIX = "pybuild-"
_TRIES = 50
_CROWDED = "this container's only group has processes in it, and so none with limits below it"
_PERIOD = 100_000  # of the scheduler's quota, in microseconds: the kernel's own default


class Controller(NamedTuple):
    """Where groups of a controller are made: a directory, and the version of its hierarchy (1 or 2)."""

    directory: str
    version: int


class Group(NamedTuple):
    """A step's group: its directories by controller, open, and the version of each hierarchy."""

    fds: dict[str, tuple[int, int]]

    def enter(self) -> None:
        """Put this process, and what it will start, into the group."""
        for fd, _ in self.fds.values():
            _write(fd, "cgroup.procs", "0")

    def reached(self) -> str:
        """Return which limit the step ran into: memory, where something in it was killed, or pids; "" if
        none.
        """
        for name, file, key in (("memory", "memory.events", "oom_kill"), ("pids", "pids.events", "max")):
            if name in self.fds:
                fd, version = self.fds[name]
                file = "memory.oom_control" if name == "memory" and version == 1 else file
                if _count(fd, file, key):
                    return name
        return ""


def wanted(request: ExecRequest) -> tuple[str, ...]:
    """Return the controllers that the request's limits need."""
    limits = {"memory": request.memory, "cpu": request.cpus, "pids": request.pids}
    return tuple(name for name, limit in limits.items() if limit is not None)


def make(name: str, request: ExecRequest) -> Group:
    """Make the group `name` with the request's limits. Raises HostError where this host has no such
    limits.
    """
    found = controllers()
    group = Group({})
    for controller in wanted(request):
        place = found.get(controller)
        if place is None:
            raise _unusable(controller, "there is no such controller here")
        try:
            group.fds[controller] = (_make(place, controller, name), place.version)
        except OSError as error:
            reason = _CROWDED if error.errno == errno.EBUSY else error.strerror
            raise _unusable(controller, f"{place.directory}: {reason}") from None
    _limit(group, request)
    return group


def remove(name: str) -> None:
    """Remove the directories of the group `name`, whose processes have ended."""
    for place in set(controllers().values()):
        _rmdir(f"{place.directory}/{name}")


def sweep() -> None:
    """Remove the groups of launchers that are dead."""
    for place in set(controllers().values()):
        for entry in _list(place.directory):
            if entry.startswith(_PREFIX) and not _alive(entry):
                # What was in it dies with its launcher, but not at the same instant.
                for _ in range(_TRIES):
                    if _rmdir(f"{place.directory}/{entry}"):
                        break
                    time.sleep(0.01)


def names() -> Iterator[str]:
    """Yield names for this process's groups: they tell whether it is alive still."""
    pid, start = _self()
    number = 0
    while True:
        number += 1
        yield f"{_PREFIX}{pid}-{start}-{number}"


def controllers(proc: str = "/proc/self") -> dict[str, Controller]:
    """Return where groups can be made, by controller: memory, cpu, pids. `proc` is a directory with `cgroup`
    and `mountinfo` of this process (cgroups(7), proc_pid_mountinfo(5)).
    """
    own = {}
    with open(f"{proc}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, kinds, path = line.rstrip("\n").split(":", 2)
            own.update(dict.fromkeys(kinds.split(","), path))
    found: dict[str, Controller] = {}
    for root, point, kind, options in _mounts(f"{proc}/mountinfo"):
        if kind == "cgroup":
            for name in {"memory", "cpu", "pids"} & {*options} & own.keys():
                if place := _join(point, root, own[name]):
                    found.setdefault(name, Controller(place, 1))
        elif kind == "cgroup2" and (place := _join(point, root, own.get("", ""))):
            place = _beside(place, point)
            for name in ("memory", "cpu", "pids"):
                if name in _read_words(f"{place}/cgroup.controllers"):
                    found.setdefault(name, Controller(place, 2))
    return found


def usable(proc: str = "/proc/self") -> dict[str, str]:
    """Return, for each of memory, cpu and pids, why no limit of it can be set; "" if one can."""
    found = controllers(proc)
    reasons = dict.fromkeys(("memory", "cpu", "pids"), "there is no such controller here")
    for name, place in found.items():
        writable = [place.directory]
        if place.version == 2:  # a process is moved through what both groups are in
            writable += [f"{place.directory}/cgroup.procs", f"{place.directory}/cgroup.subtree_control"]
        closed = [path for path in writable if not os.access(path, os.W_OK, effective_ids=True)]
        reasons[name] = f"{closed[0]} cannot be written" if closed else ""
        if not closed and place.version == 2 and _crowded(place.directory, name):
            reasons[name] = _CROWDED
    return reasons


def _mounts(path: str) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield root, mount point, file system type and its options of each mount."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.rstrip("\n").partition(" - ")
            root, point = before.split(" ")[3:5]
            kind, _, options = after.split(" ", 2)
            yield _plain(root), _plain(point), kind, options.split(",")


def _plain(field: str) -> str:
    """Return a field of mountinfo without its escapes: a blank is \\040."""
    first, *rest = field.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def _beside(own: str, top: str) -> str:
    """Return where a group of version 2 can be made: a group with processes in it, but for the root, has no
    children with controllers ("no internal processes").
    """
    return top if own == top else os.path.dirname(own)


def _join(point: str, root: str, path: str) -> str:
    """Return where the group `path` is, in a mount of the group `root`; "" if it is not in there."""
    root = root.rstrip("/")
    if path != root and not path.startswith(root + "/"):
        return ""
    return point + path[len(root) :].rstrip("/")


def _crowded(directory: str, controller: str) -> bool:
    """Whether a group of version 2 has processes in it, and so can give its children no controller."""
    # The kernel's root group may: it has no such file. That of a container may not.
    if controller in _read_words(f"{directory}/cgroup.subtree_control"):
        return False
    return os.path.exists(f"{directory}/cgroup.events") and bool(_read_words(f"{directory}/cgroup.procs"))


def _make(place: Controller, controller: str, name: str) -> int:
    if place.version == 2 and controller not in _read_words(f"{place.directory}/cgroup.subtree_control"):
        with open(f"{place.directory}/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write(f"+{controller}")
    path = f"{place.directory}/{name}"
    with suppress(FileExistsError):  # of another controller in the same hierarchy
        os.mkdir(path)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _limit(group: Group, request: ExecRequest) -> None:
    for controller, (fd, version) in group.fds.items():
        try:
            if controller == "memory":
                _limit_memory(fd, version, str(request.memory))
            elif controller == "pids":
                _write(fd, "pids.max", str(request.pids))
            else:
                assert request.cpus is not None
                quota = max(int(request.cpus * _PERIOD), 1000)  # the least that the kernel takes
                text = str(quota) if version == 1 else f"{quota} {_PERIOD}"
                _write(fd, "cpu.cfs_quota_us" if version == 1 else "cpu.max", text)
        except OSError as error:
            raise _unusable(controller, str(error.strerror)) from None


def _limit_memory(fd: int, version: int, limit: str) -> None:
    _write(fd, "memory.limit_in_bytes" if version == 1 else "memory.max", limit)
    with suppress(FileNotFoundError):  # swap may not be accounted for at all
        _write(fd, *(("memory.memsw.limit_in_bytes", limit) if version == 1 else ("memory.swap.max", "0")))


def _write(directory: int, name: str, text: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _count(directory: int, name: str, key: str) -> int:
    """Return the number that stands behind `key` in a file of such lines; 0 if there is none."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return 0
    with open(fd, encoding="ascii") as file:
        for line in file:
            word, _, number = line.partition(" ")
            if word == key:
                return int(number)
    return 0


def _read_words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _rmdir(path: str) -> bool:
    """Remove a group; return whether trying again is of no use."""
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EBUSY, errno.EACCES, errno.EPERM):
            raise
        return error.errno != errno.EBUSY
    return True


def _self() -> tuple[int, str]:
    """Return this process's id and start time as the mounted /proc has them (proc_pid_stat(5))."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        text = file.read()
    return int(text.split(" ", 1)[0]), _start(text)


def _alive(name: str) -> bool:
    words = name.removeprefix(_PREFIX).split("-")
    if len(words) != 3 or not words[0].isdecimal():
        return True  # none of ours
    try:
        with open(f"/proc/{words[0]}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return False
    return _start(text) == words[1] and text.rpartition(") ")[2][:1] != "Z"


def _start(stat: str) -> str:
    return stat.rpartition(")")[2].split()[19]


def _unusable(controller: str, reason: str) -> HostError:
    return HostError(
        f"steps cannot be limited ({controller}): {reason}",
        code="host/cgroups",
        hint="cgroups must be mounted and writable, as root or delegated to the user; `pybuild doctor` tells",
    )


def groups_of(pid: int) -> tuple[str, ...]:
    """Return the directories of those groups that a launcher made, and that the process is in."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            names = {os.path.basename(line.rstrip("\n").split(":", 2)[2]) for line in file}
    except OSError:  # it has ended
        return ()
    ours = [name for name in names if name.startswith(_PREFIX)]
    places = sorted({place.directory for place in controllers().values()})
    return tuple(path for at in places for name in ours if os.path.isdir(path := f"{at}/{name}"))


def name_of_this(word: str) -> str:
    """Return a name for a group that another program makes for this process."""
    pid, start = _self()
    return f"{_PREFIX}{pid}-{start}-{word}"


def sweep_everywhere() -> None:
    """Remove the groups of processes that are dead, of whatever controller: another program made them."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        own = {line.rstrip("\n").split(":", 2)[2].rstrip("/") for line in file}
    for _, point, kind, _ in _mounts("/proc/self/mountinfo"):
        if kind in ("cgroup", "cgroup2"):
            for directory in {point + path for path in (*own, "")}:
                for entry in _list(directory):
                    if entry.startswith(_PREFIX) and not _alive(entry):
                        _rmdir(f"{directory}/{entry}")
