"""What a process has of the one that starts it, and what a command gets in its place: the same whoever starts
pybuild, so that neither a shell's ulimit nor a service's protection is in the result.

Kept are those that say how much of this host a build may have: nice and other scheduling, I/O priority,
processors, memory policy. Imported by the launcher: nothing heavy.
"""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress

from builder import linux
from builder.errors import StepFailed

_NONE = resource.RLIM_INFINITY

_LIMITS = {
    "as": (_NONE, _NONE),
    "cpu": (_NONE, _NONE),
    "data": (_NONE, _NONE),
    "fsize": (_NONE, _NONE),
    "memlock": (8 << 20, 8 << 20),
    "msgqueue": (819200, 819200),
    "nice": (0, 0),
    "nofile": (1024, 524288),
    "nproc": (_NONE, _NONE),
    "rss": (_NONE, _NONE),
    "rtprio": (0, 0),
    "rttime": (_NONE, _NONE),
    "stack": (8 << 20, _NONE),
}
"""Soft and hard limits: those of a service of systemd's, which is what Docker gives since containerd 2.0,
with any number of processes. The kernel makes that of pending signals of the memory there is.
"""

_NO_CORE = (1, 1)
"""A limit of 0 keeps a core from a file, but not from a program that core_pattern names: that is started
nevertheless, outside of the sandbox. A limit of 1 is what the kernel knows its own such programs by, and it
starts none for them (fs/coredump.c); for a file it is too little.
"""


def settle() -> None:
    """Put what all commands inherit right, in the process that starts them."""
    # What glibc keeps for itself no one can set through it, posix_spawn(3) neither; it is inherited all the
    # same.
    for number in (32, 33):
        linux.default_action(number)
    # setarch(8) leaves its mark: another machine name, no randomisation of addresses.
    with suppress(OSError):  # a filter on this process
        linux.personality(0)
    # Such as capsh(1) sets: that root has no capabilities after an execve. They may be locked.
    with suppress(OSError):
        linux.prctl(linux.PR_SET_SECUREBITS, 0)


def limit(rlimits: tuple[tuple[str, int, int], ...]) -> None:
    """Give this process the default limits, and `rlimits`, as of ExecRequest. Raises StepFailed for one of
    these that cannot be.
    """
    given = {name.lower(): (soft, hard) for name, soft, hard in rlimits}
    for name, (soft, hard) in _LIMITS.items():
        if name not in given:
            _set_default(getattr(resource, f"RLIMIT_{name.upper()}"), soft, hard)
    if given.get("core", (0, 0)) == (0, 0):
        given.pop("core", None)
        _leave_no_core()
    for name, wanted in given.items():
        _set(name, *wanted)
    _give_up_protection()


def _set_default(number: int, soft: int, hard: int) -> None:
    """Without privileges, a hard limit can be lowered only."""
    try:
        resource.setrlimit(number, (soft, hard))
    except ValueError:
        most = resource.getrlimit(number)[1]
        resource.setrlimit(number, (most if soft == _NONE else min(soft, most), most))


def _set(name: str, soft: int, hard: int) -> None:
    number = getattr(resource, f"RLIMIT_{name.upper()}", None)
    if not isinstance(number, int):
        raise StepFailed(f"there is no limit named {name}", status=126, code="step/limit")
    try:
        resource.setrlimit(number, (soft, hard))
    except (OSError, ValueError) as error:
        raise StepFailed(
            f"cannot set the limit {name} to {soft}:{hard}: {error}", status=126, code="step/limit"
        ) from None


def _leave_no_core() -> None:
    """A core has in it whatever the process knows, secrets too, and the host's handler keeps it."""
    _set_default(resource.RLIMIT_CORE, *_NO_CORE)
    # Many programs lower their limit to 0, for the same reason: what is dumped then has no memory in it.
    _write("/proc/self/coredump_filter", b"0")


def _give_up_protection() -> None:
    """What must not be killed when memory runs out (sshd, a daemon, pybuild if they start it) is not what a
    recipe runs.
    """
    path = "/proc/self/oom_score_adj"
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        score = os.read(fd, 16)
        os.close(fd)
        if score.startswith(b"-"):
            _write(path, b"0")


def _write(path: str, data: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS):
            return
        raise
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
