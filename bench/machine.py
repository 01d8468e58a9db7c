"""What the machine is that figures hold for."""

from __future__ import annotations

import os
import platform


def machine(directory: str) -> str:
    """Return processor, cores, memory, kernel, and the file system that `directory` is on, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = processor(file.read())
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        system = file_system(file.read(), os.path.realpath(directory))
    return f"{model}, {cores} cores, {memory:.0f} GiB, Linux {platform.release()}, {system}"


def processor(cpuinfo: str) -> str:
    """Return the model that /proc/cpuinfo names first."""
    for line in cpuinfo.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def file_system(mountinfo: str, path: str) -> str:
    """Return the type of the file system that `path` is on, by /proc/self/mountinfo."""
    found, kind = "", "unknown file system"
    for line in mountinfo.splitlines():
        fields = line.split()
        point = fields[4]
        below = path == point or path.startswith(point.rstrip("/") + "/")
        if below and len(point) >= len(found):
            found, rest = point, fields[fields.index("-") + 1 :]
            kind = f"{rest[0]}, new, in a file" if rest[1].startswith("/dev/loop") else rest[0]
    return kind
