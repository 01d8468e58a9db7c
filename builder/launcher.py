"""A small process that forks for each step, and dies with the builder. See docs/decisions/launcher.md.

fork(2) copies the page tables of its caller, and a builder that has parsed, planned and decompressed is
large. The launcher is a fresh interpreter without site packages, with nothing of the builder's memory in it
and none of its fds.
"""

from __future__ import annotations

import array
import gc
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from builder.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_FDS = 253  # SCM_MAX_FD
_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); from builder.launcher import serve; "
    "serve(int(sys.argv[2]), joins=sys.argv[3] == 'joins')"
)
_CHANNEL = 3
_INTERPRETER = 4
_KINDS = {"plain": b"!", "limited": b"L", "join": b"J"}


class Launcher:
    """The builder's end. Every method is safe from several threads at once."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self._pid = pid
        self._channel = channel

    @classmethod
    def start(cls, *, joins: bool = False) -> Launcher:
        """Start the process; does not wait for it. `joins`: it is for sandboxes of other launchers, too, and
        makes none. Raises HostError without root.
        """
        if os.geteuid() != 0:
            from builder.reports import PRIVILEGES_HINT

            raise HostError("running steps needs root", code="host/privileges", hint=PRIVILEGES_HINT)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                return cls(_spawn(theirs.fileno(), joins), ours)
            except OSError as error:
                ours.close()
                raise HostError(
                    f"the launcher of steps cannot be started: {sys.executable}: {error.strerror}",
                    code="host/sandbox",
                    hint="the Python that runs pybuild must be one that this user can run",
                ) from None

    def submit(self, control: int, payload: int, fds: Sequence[int], kind: str = "plain") -> None:
        """Have a sandbox made of the request in the memfd `payload`; it reports through `control`. All fds
        are copied. `kind`: plain, limited if it needs a control group, join if it is to enter a sandbox.

        Raises HostError if the launcher is gone.
        """
        if len(fds) > _MOST_FDS - 2:
            raise HostError(f"{len(fds)} open files cannot be passed to one step", code="host/sandbox")
        rights = array.array("i", [control, payload, *fds])
        try:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            self._channel.sendmsg([_KINDS[kind]], ancillary, socket.MSG_NOSIGNAL)
        except OSError as error:
            raise HostError(f"the launcher of steps is gone: {error.strerror}", code="host/sandbox") from None

    def close(self) -> None:
        """End the process, and with it every sandbox."""
        if self._channel.fileno() < 0:
            return
        self._channel.close()
        with suppress(ChildProcessError):  # somebody else reaped it
            os.waitpid(self._pid, 0)


def _spawn(channel: int, joins: bool) -> int:
    """Start a fresh interpreter with `channel` as its fd 3, and nothing of ours but the search path of
    libraries.
    """
    import signal

    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    argv = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP, root, str(_CHANNEL)]
    argv.append("joins" if joins else "makes")
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_DUP2, channel, _CHANNEL),
        *((os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)),
    ]
    own = _own_interpreter()
    if own is not None:
        actions.append((os.POSIX_SPAWN_DUP2, own, _INTERPRETER))
    try:
        return os.posix_spawn(
            sys.executable if own is None else f"/proc/self/fd/{_INTERPRETER}",
            argv,
            environment,
            file_actions=actions,
            setsigmask=[],
            setsigdef=signal.valid_signals(),
        )
    finally:
        if own is not None:
            os.close(own)


def _own_interpreter() -> int | None:
    """Return a mount of the interpreter's program that can be made read-only. What the launcher forks has the
    same /proc/self/exe, and a step may get at it by a script's first line: it is to be of no use for writing
    to the host's file, nor for running it (CVE-2019-5736; as runc has it). None without the privilege: then
    no sandbox will come about either.
    """
    import fcntl

    from builder import linux, mounts

    try:
        fd = mounts.clone(linux.AT_FDCWD, sys.executable)
    except OSError:
        return None
    try:  # above what the descriptors of the new process take the place of
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _INTERPRETER + 1)
    finally:
        os.close(fd)


def _shut_interpreter() -> None:
    """Make the mount that this process's program is run from one that nothing can be written to, and nothing
    more be run from.
    """
    from builder import linux, mounts

    with suppress(OSError):  # it is no mount of our own: the descriptor is another one, or none
        mounts.restrict(_INTERPRETER, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOEXEC)


def serve(fd: int, *, joins: bool = False) -> NoReturn:
    """Be the launcher: fork a sandbox for each request until the builder is gone."""
    import signal

    from builder import capabilities, inherited, linux, seccomp
    from cache import idmap

    inherited.settle()
    if idmap.confined() and not joins:  # setns(2) goes down to pid namespaces below one's own only
        with suppress(PermissionError):  # what is lacking is said of the step that needs it
            _enter_pid_namespace()
    if idmap.single():
        # In a step's root there is nothing left to import.
        from builder import refusals  # noqa: F401
    os.chdir("/")
    os.setsid()  # no signal from the builder's terminal: it is the builder that decides what a Ctrl-C means
    _shut_interpreter()
    linux.close_range(fd + 1, 0xFFFFFFFF)
    linux.prctl(linux.PR_SET_NAME, b"pybuild-launch\0")
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    seccomp.compile_filter(os.uname().machine, capabilities.DEFAULT)
    channel = socket.socket(fileno=fd)
    channel.set_inheritable(False)
    namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    own = os.pidfd_open(os.getpid())
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection would write to pages that parent and child share
    groups = Groups()
    while True:
        groups.wait(channel)
        kind, fds = _receive(channel)
        if not fds:
            groups.close()
            os._exit(0)
        if kind == _KINDS["join"]:
            _join(fds, own, channel)
        else:
            _launch(fds, namespace, own, channel, groups if kind == _KINDS["limited"] else None)


class Groups:
    """The control groups of the steps that run, by the pidfd of pid 1 of each. They go with it."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._free: Iterator[str] | None = None

    def next_name(self) -> str:
        """Return a name for a group. At the first call, remove what dead launchers left."""
        if self._free is None:
            from builder import cgroups

            cgroups.sweep()
            self._free = cgroups.names()
        return next(self._free)

    def keep(self, pidfd: int, name: str) -> None:
        """Remove the group `name` when the process has ended."""
        self._names[pidfd] = name

    def wait(self, channel: socket.socket) -> None:
        """Return when there is something to receive; meanwhile remove the groups whose steps end."""
        while self._names and channel.fileno() not in (ready := _readable([channel.fileno(), *self._names])):
            self._remove(ready)

    def close(self) -> None:
        """Kill what still runs, and remove its groups."""
        import signal

        for pidfd in self._names:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        while self._names:
            self._remove(_readable([*self._names]))

    def remove(self, name: str) -> None:
        """Remove the group `name`, where nothing runs any more."""
        from builder import cgroups

        with suppress(OSError):
            cgroups.remove(name)

    def _remove(self, pidfds: Sequence[int]) -> None:
        for pidfd in pidfds:
            self.remove(self._names.pop(pidfd))
            os.close(pidfd)


def _readable(fds: Sequence[int]) -> list[int]:
    import select

    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll()]


def _enter_pid_namespace() -> None:
    """Go on as pid 1 of a namespace of our own: only to one that our user namespace has may setns(2) go back.

    The process that the builder started waits for its end, and takes it along if it is killed itself.
    """
    import signal

    from builder import linux

    linux.unshare(linux.CLONE_NEWPID)
    parent = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid:
        os.close(_CHANNEL)
        os.waitpid(pid, 0)
        os._exit(0)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if _ended(parent):  # before the signal was asked for
        os._exit(0)
    os.close(parent)


def _ended(pidfd: int) -> bool:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Return the kind and the fds of the next request; none when the builder is gone."""
    data, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(4 * _MOST_FDS), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for _, _, content in ancillary:
        fds.frombytes(content)
    return data, fds.tolist() if data else []


def _launch(fds: list[int], namespace: int, own: int, channel: socket.socket, groups: Groups | None) -> None:
    """Fork pid 1 of a new pid namespace for the request, and tell the builder its pidfd."""
    from builder import init, linux, reports

    control = socket.socket(fileno=fds[0])
    try:
        group = groups.next_name() if groups is not None else ""
        # The next child is the first process of a new namespace; this process itself stays where it is.
        linux.unshare(linux.CLONE_NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                channel.close()
                init.run(control, fds[1], fds[2:], own, group)
        finally:
            linux.setns(namespace, linux.CLONE_NEWPID)
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already, and said how
            if groups is not None:
                groups.remove(group)
            return
        reports.send(control, (reports.STARTED,), pidfd)
        if groups is not None:
            groups.keep(pidfd, group)
        else:
            os.close(pidfd)
    except Exception as error:
        reports.send_error(control, error)
    finally:
        control.close()
        for fd in fds[1:]:
            os.close(fd)


def _join(fds: list[int], own: int, channel: socket.socket) -> None:
    """Fork the process that has the request's command run in a sandbox that there is."""
    from builder import joining, linux, reports

    control = socket.socket(fileno=fds[0])
    try:
        linux.load()
        pid = os.fork()
        if pid == 0:
            channel.close()
            joining.run(control, fds[1], fds[2:], own)
        with suppress(ProcessLookupError):  # it has ended already, and said how
            pidfd = os.pidfd_open(pid)
            reports.send(control, (reports.STARTED,), pidfd)
            os.close(pidfd)
    except Exception as error:
        reports.send_error(control, error)
    finally:
        control.close()
        for fd in fds[1:]:
            os.close(fd)
