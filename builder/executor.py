"""What runs a step's command: the values that go in and come out, and the protocol. Nothing here touches the
host.

builder/sandbox.py is the executor of Linux namespaces. Another one (a remote worker, a microVM) has the same
three calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from builder.errors import StepFailed
from builder.overlay import Overlay
from cache.oci.platform import Platform

Stream = Literal["stdout", "stderr"]

Output = Callable[[Stream, bytes], None]
"""Where a command's output goes, in pieces cut anywhere. Called in the thread that waits; what it raises
ends the step.
"""


class CommandError(StepFailed):
    """The command could not be started. `status` is what a shell would give: 127 not found, 126 anything
    else.

    Codes: step/not-found, step/not-executable, step/user (no such user or group), step/workdir, step/limit
    (an rlimit that cannot be), step/mount (a target that cannot be mounted on).
    """

    code = "step/not-executable"


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount that a step sees and its layer does not. No mount point is left behind, and no parent made for
    it.

    kind: `bind` shows `source`: a path on the host; an open mount or directory fd, which stays the caller's;
    or an Overlay, which is mounted for this step alone. `subpath` picks a file or directory in it, resolved
    inside of it: no symbolic link leads out. `tmpfs` is an empty file system in memory, `file` a regular file
    in memory that holds `data` (which never gets to disk). Owner, mode and size are of a tmpfs or file; size
    in bytes, None for half of the memory. A relative target is relative to the request's workdir.
    """

    kind: Literal["bind", "tmpfs", "file"]
    target: str
    source: str | int | Overlay | None = None
    subpath: str = ""
    read_only: bool = False
    size: int | None = None
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A command, and the root file system and surroundings that it gets.

    lower: absolute directories, top first; upper and work: on one file system, work empty; both None for a
    root that nothing can be written to. Afterwards upper holds what the command wrote, and only that.
    root: `overlay` for the above, `host` to run a program of this host (mmdebstrap): its whole tree read-only
    but for the bind mounts given, a private /tmp, and every capability.
    user: as USER takes it: name, uid, name:group, uid:gid; empty for root. Names are looked up in the root's
    own /etc/passwd and /etc/group. workdir is made if it is missing, as Docker does.
    network: `host`, `none` for an interface lo and nothing else, or `private` for one of its own with a way
    out. ports: of the host that lead to ports of a private one (tcp or udp, address or "", port, port
    within). extra_hosts: (name, address) pairs for /etc/hosts.
    stdin: bytes, an open fd that stays the caller's, or None for /dev/null. tty: a pseudo-terminal in place
    of the pipes; its output is reported as stdout. stdio: three fds that the command inherits as they are,
    instead of all that.
    privileged: every capability, no seccomp filter, nothing masked, the host's devices.
    capabilities: names without CAP_, None for Docker's default. no_new_privileges: setuid programs gain
    nothing.
    rlimits: (name as setrlimit(2) has it, such as "nofile"; soft; hard; -1 for no limit).
    shm_size: of /dev/shm, in bytes. timeout: seconds until the command is killed, None for never.
    memory: bytes, cpus: how many, pids: how many processes and threads; None for no limit of its own.
    join: a pidfd of pid 1 of a sandbox that runs, whose namespaces the command enters: it gets that root, and
    of the above nothing that makes one. `groups`: directories of control groups that it is put in.
    prepared: a directory that is the root as it is, with all mount points in it, in place of lower and work;
    upper is where what is written can be found meanwhile (builder/snapshots.py).
    idle: there is no command, but a process that does nothing until it is killed.
    platform: what its programs are for, None for this machine; the executor emulates it, and sets `emulator`
    for that: name, magic and mask of a handler (builder/emulation.py), and the open program.

    What can hold secrets (env, stdin, the data of mounts) is not in its repr.
    """

    argv: tuple[str, ...]
    lower: tuple[str, ...] = ()
    upper: str | None = None
    work: str | None = None
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    user: str = ""
    workdir: str = "/"
    network: Literal["host", "none", "private"] = "host"
    mounts: tuple[Mount, ...] = ()
    hostname: str = "pybuild"
    ports: tuple[tuple[str, str, int, int], ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    stdin: bytes | int | None = field(default=None, repr=False)
    tty: bool = False
    stdio: tuple[int, int, int] | None = None
    root: Literal["overlay", "host"] = "overlay"
    privileged: bool = False
    capabilities: tuple[str, ...] | None = None
    no_new_privileges: bool = False
    seccomp: bool = True
    rlimits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int = 64 << 20
    timeout: float | None = None
    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    platform: Platform | None = None
    emulator: tuple[str, bytes, bytes, int] | None = None
    join: int | None = None
    groups: tuple[str, ...] = ()
    prepared: str | None = None
    idle: bool = False


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command ended: its exit code, or 128 + n for signal n; wall seconds; whether its timeout
    killed it; which other limit something in it ran into, whatever became of that.
    """

    status: int
    seconds: float
    timed_out: bool = False
    limit: Literal["", "memory", "pids"] = ""


class Running(Protocol):
    """A command that was started. Its output is read while somebody waits; nobody else may wait at the
    same time.
    """

    def wait(self) -> ExecResult:
        """Read the output until the command has ended and everything it left running is dead. Raises
        CommandError.
        """

    def when_begun(self, tell: Callable[[int, int], None]) -> None:
        """Have `tell` called with the pidfds of pid 1 and of the command once there are both, while somebody
        waits. They stay the executor's. To be said before anybody does.
        """

    def kill(self, signal: int) -> None:
        """Send `signal` to the command; SIGKILL ends all of its processes. From any thread, at any time."""

    def resize(self, rows: int, columns: int) -> None:
        """Tell the command's pseudo-terminal its size."""

    def write(self, data: bytes) -> None:
        """Type `data` on the command's pseudo-terminal."""


class Executor(Protocol):
    """Runs commands. Every call is safe from several threads at once."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        """Start a command. Raises HostError where this host cannot."""

    def run(self, request: ExecRequest, output: Output) -> ExecResult:
        """Start a command and wait. Raises CommandError where it could not be started, HostError."""

    def close(self) -> None:
        """Kill what still runs, and release everything."""
