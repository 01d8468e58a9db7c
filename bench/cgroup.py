"""Processor time by control group (cgroups(7), version 2, also beside version 1): whatever a command starts
is counted, whoever waits for it and whether anybody does. What wait4(2) tells of descendants lacks those that
the kernel reaps for a parent that ignores SIGCHLD, as pybuild's launcher does.

The suite itself is in the group `commands`, and so is all that it starts; daemons are put into `daemons`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

NAME = f"pybuild-bench-{os.getpid()}"
COMMANDS, DAEMONS = f"/{NAME}/commands", f"/{NAME}/daemons"
"""The groups, as from the top of the hierarchy."""


def hierarchy(mounts: str) -> str | None:
    """Return where /proc/self/mounts says that version 2 is mounted; None if it is not."""
    for line in mounts.splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return fields[1]
    return None


def parse_usage(stat: str) -> float | None:
    """Return the processor seconds that a cpu.stat tells; None if it tells none."""
    for line in stat.splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) / 1e6
    return None


def _top() -> str | None:
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return hierarchy(file.read())


@contextlib.contextmanager
def entered() -> Iterator[bool]:
    """Make the groups, be in that of the commands, and remove them at the end; yield whether it can be
    done.
    """
    top = _top()
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        before = next((line.strip()[3:] for line in file if line.startswith("0::")), "/")
    try:
        if top is None:
            raise OSError("no hierarchy of version 2")
        for group in ("", "/commands", "/daemons"):
            os.mkdir(f"{top}/{NAME}{group}")
        _move(os.getpid(), top + COMMANDS)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        _move(os.getpid(), top + before)
        remove()


def remove() -> None:
    """Remove the groups and those below them where they are empty: in version 1, too, where runc makes
    its own.
    """
    with open("/proc/self/mounts", encoding="utf-8") as file:
        tops = [line.split()[1] for line in file if line.split()[2] in ("cgroup", "cgroup2")]
    for top in tops:
        for path, _, _ in os.walk(f"{top}/{NAME}", topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def move_daemon(pid: int) -> None:
    """Count what `pid` and its children to come use as a daemon's."""
    top = _top()
    if top is not None and os.path.isdir(top + DAEMONS):
        _move(pid, top + DAEMONS)


def _move(pid: int, group: str) -> None:
    with open(f"{group}/cgroup.procs", "w", encoding="utf-8") as file:
        file.write(str(pid))


def used(daemons: bool) -> float | None:
    """Return the processor seconds of the commands so far, with those of daemons if asked; None if
    unknown.
    """
    top = _top()
    total = 0.0
    for group in (COMMANDS, *([DAEMONS] if daemons else [])):
        try:
            with open(f"{top}{group}/cpu.stat", encoding="utf-8") as file:
                seconds = parse_usage(file.read())
        except OSError:
            return None
        if seconds is None:
            return None
        total += seconds
    return total
