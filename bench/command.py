"""Running what is measured: commands one after the other, with the time they took and the processor time they
used.

The processor time is what the kernel charges to the command and all its descendants (wait4(2)); those that
are left as orphans come to this process (PR_SET_CHILD_SUBREAPER), and are counted too. What a daemon does for
the command is counted as the daemon's own, see processes.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench import cgroup, processes
from bench.samples import Sample

_PR_SET_CHILD_SUBREAPER = 36
_LAST_LINES = 12


class CommandFailed(Exception):
    """A measured command did not end with 0; the message says which one, and ends with its last lines."""


@dataclass(frozen=True, slots=True)
class Command:
    """Words to be executed, and the variables that they need beside those of this process."""

    words: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)


def adopt_orphans() -> None:
    """Let orphaned descendants of this process become its children, so that it can wait for them."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(command: Command, log: str) -> None:
    """Run `command`, which is not measured; its output replaces the file `log`. Raises CommandFailed."""
    _finish(_start(command, log), command, log)


def measured(commands: Sequence[Command], daemons: Sequence[int], log: str) -> Sample:
    """Run `commands` in turn; return the seconds from the first one's start to the last one's end, and the
    processor seconds that they used meanwhile, with the daemons if there are `daemons`.

    Raises CommandFailed.
    """
    before = cgroup.used(bool(daemons))
    start = time.perf_counter()
    for command in commands:
        _finish(_start(command, log), command, log)
    wall = time.perf_counter() - start
    after = cgroup.used(bool(daemons))
    return Sample(wall, None if before is None or after is None else after - before)


def peak_memory(commands: Sequence[Command], daemons: Sequence[int], log: str) -> int:
    """Run `commands` in turn; return the most bytes that they and the trees of `daemons` held at one time.

    Not to be timed at the same time: to look costs a processor some time. Raises CommandFailed.
    """
    peak = 0
    for command in commands:
        pid = _start(command, log)
        with processes.Watch([pid, *daemons]) as watch:
            _finish(pid, command, log)
        peak = max(peak, watch.peak)
    return peak


def _start(command: Command, log: str) -> int:
    environment = {**os.environ, **command.environment}
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawnp(command.words[0], list(command.words), environment, file_actions=actions)


def _finish(pid: int, command: Command, log: str) -> None:
    """Wait for `pid` and for what it left behind."""
    try:
        _, status = os.waitpid(pid, 0)
    except BaseException:  # the suite is ended
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    for orphan in processes.ended_children():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(orphan, os.WNOHANG)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        words = " ".join(command.words)
        raise CommandFailed(f"`{words}` ended with {code}:\n{last_lines(log)}")


def last_lines(log: str) -> str:
    """Return the end of the file `log`."""
    with open(log, encoding="utf-8", errors="replace") as file:
        return "\n".join(file.read().splitlines()[-_LAST_LINES:])


def wait_until(ready: Callable[[], bool], seconds: float) -> bool:
    """Ask `ready` until it says yes, for `seconds` at most; return whether it did."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
