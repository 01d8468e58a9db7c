"""A container that runs, as other pybuild processes find it: its first processes, and what a further command
in it gets.

state.json in the container's directory. It is believed while the container's lock is held, and a process is
taken for the container's only if it has the start time that was written down: pids are used again.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.executor import ExecRequest
    from cache.containers import Container, ContainerStore

_FILE = "/state.json"


@dataclass(frozen=True, slots=True)
class State:
    """`init` and `command`: pid and start time (proc_pid_stat(5), field 22) of pid 1 and of the container's
    command. `started`: seconds since 1970. `health`: starting, healthy or unhealthy; "" without a
    HEALTHCHECK. The rest is what the ExecRequest of the container said.
    """

    init: tuple[int, str]
    command: tuple[int, str]
    started: int
    limited: bool
    env: tuple[tuple[str, str], ...]
    user: str
    workdir: str
    network: str
    privileged: bool
    capabilities: tuple[str, ...] | None
    no_new_privileges: bool
    seccomp: bool
    rlimits: tuple[tuple[str, int, int], ...]
    platform: str | None
    health: str = ""

    def request(self, argv: tuple[str, ...], pidfd: int) -> ExecRequest:
        """Return the request to run `argv` in the container; `pidfd` is that of its pid 1."""
        from builder.cgroups import groups_of
        from builder.executor import ExecRequest
        from cache.oci.platform import Platform

        return ExecRequest(
            argv=argv,
            env=self.env,
            user=self.user,
            workdir=self.workdir,
            network="host" if self.network == "host" else "private",
            privileged=self.privileged,
            capabilities=self.capabilities,
            no_new_privileges=self.no_new_privileges,
            seccomp=self.seccomp,
            rlimits=self.rlimits,
            platform=None if self.platform is None else Platform.parse(self.platform),
            join=pidfd,
            groups=groups_of(self.command[0]) if self.limited else (),
        )


def begun(request: ExecRequest, init: int, command: int, now: int) -> State:
    """Return the state of a container whose pidfds are `init` and `command`, just started."""
    from builder.cgroups import wanted

    first, main = pid_of(init), pid_of(command)
    return State(
        init=(first, start_time(first)),
        command=(main, start_time(main)),
        started=now,
        limited=bool(wanted(request)),
        env=request.env,
        user=request.user,
        workdir=request.workdir,
        network=request.network,
        privileged=request.privileged,
        capabilities=request.capabilities,
        no_new_privileges=request.no_new_privileges,
        seccomp=request.seccomp,
        rlimits=request.rlimits,
        platform=None if request.platform is None else str(request.platform),
    )


def save(directory: str, state: State) -> None:
    """Write it to the container's directory. What can hold secrets is for the owner alone."""
    path = directory + _FILE
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(asdict(state), file)
    os.rename(path + ".new", path)


def load(directory: str) -> State | None:
    """Return what was saved last, None if nothing was."""
    try:
        with open(directory + _FILE, encoding="utf-8", errors="surrogateescape") as file:
            value = json.load(file)
        return State(**{name: _tuples(part) for name, part in value.items()})
    except (OSError, ValueError, TypeError):
        return None


def forget(directory: str) -> None:
    """Remove what was saved: the container has ended."""
    with suppress(FileNotFoundError):
        os.unlink(directory + _FILE)


def note_health(directory: str, health: str) -> None:
    """Write the state again, with how the container's health is."""
    state = load(directory)
    if state is not None and state.health != health:
        save(directory, replace(state, health=health))


def running(store: ContainerStore, container: Container) -> State:
    """Return the state of a container that runs. Raises UsageError if it does not."""
    state = load(store.directory(container.id)) if store.is_running(container.id) else None
    if state is None:
        raise not_running(container)
    return state


def open_process(container: Container, process: tuple[int, str]) -> int:
    """Return a pidfd of one of the container's first processes. Raises UsageError if it has ended."""
    pid, start = process
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        raise not_running(container) from None
    if start_time(pid) != start:
        os.close(pidfd)
        raise not_running(container)
    return pidfd


def not_running(container: Container) -> UsageError:
    """Return the error of who wants something of a container that has ended."""
    return UsageError(
        f"container {container.name or container.id[:12]} is not running",
        code="container/stopped",
        hint="`pybuild ps` lists those that run",
    )


def pid_of(pidfd: int) -> int:
    """Return the pid of a process, 0 if it has been reaped (pidfd_open(2), fdinfo)."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == "Pid":
                return max(int(value), 0)
    return 0


def start_time(pid: int) -> str:
    """Return when a process was started, as the kernel counts; "" if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
