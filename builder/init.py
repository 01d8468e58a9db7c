"""Pid 1 of a sandbox: enters new namespaces, builds the root, starts the command, reaps, and kills what is
left.

It is a child of the launcher. What it has to say goes to the builder through a socket, as builder/reports.py
has it. The command shares its pid namespace with this process, but has no way into it: it lacks the
capabilities to trace it or to read its /proc directory, and the kernel delivers no signal to it.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import stat
import struct
from typing import TYPE_CHECKING, NoReturn

from builder import hostroot, linux, mountpoints, mounts, network, process, reports, rootfs, wire
from builder.supervision import Supervision
from builder.supervision import supervision as supervise
from cache import idmap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.cgroups import Group
    from builder.executor import ExecRequest

_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430
_TIOCGPTPEER = 0x5441
_LAST_FD = 0xFFFFFFFF
_NULL = os.makedev(1, 3)
_PTMX = os.makedev(5, 2)


def run(
    control: socket.socket, payload: int, fds: Sequence[int], launcher: int, group_name: str = ""
) -> NoReturn:
    """Carry out the request in the memfd `payload`, and exit. `launcher` is the launcher's pidfd,
    `group_name` the control group to make for its limits, if it has any.
    """
    try:
        depend_on(launcher)
        request, standard = wire.decode(os.pread(payload, os.fstat(payload).st_size, 0), fds)
        group = _make_group(group_name, request)
        supervision = supervise(request)
        _enter_root(request, control)
        stdio = streams(request, standard, control)
        if request.network == "private":
            network.await_outside(control)
        command = start(request, stdio, control, group, supervision)
        kept = [fd for fd, _ in group.fds.values()] if group else []
        kept += supervision.fds if supervision else []
        close_all_but([control.fileno(), *kept])
        if supervision is not None:
            supervision.run(command)
        status = reap(command)
        if supervision is not None:
            supervision.finish()
        reports.send(control, (reports.EXIT, status, group.reached() if group else ""))
    except BaseException as error:
        reports.send_error(control, error)
    finally:
        os._exit(0)


def depend_on(launcher: int) -> None:
    """Die with the launcher; with this process, the kernel kills everything in the pid namespace."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the launcher ignores it, so that the kernel reaps for it
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(launcher, select.POLLIN)
    if poll.poll(0):  # it died before the signal was asked for
        os._exit(0)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    linux.prctl(linux.PR_SET_NAME, b"pybuild-init\0")


def _make_group(name: str, request: ExecRequest) -> Group | None:
    """Make the control group, while the host's file systems are in sight. This process does not enter it: it
    has to outlive a command that is out of memory.
    """
    if not name:
        return None
    from builder import cgroups

    return cgroups.make(name, request)


def close_all_but(kept: list[int]) -> None:
    """Close all descriptors but the standard streams and these."""
    first = 3
    for fd in sorted(kept):
        if fd > first:
            linux.close_range(first, fd - 1)
        first = fd + 1
    linux.close_range(first, _LAST_FD)


def _enter_root(request: ExecRequest, control: socket.socket) -> None:
    sources = rootfs.clone_sources(request)
    flags = linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP
    linux.unshare(flags | (linux.CLONE_NEWNET if request.network != "host" else 0))
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    if request.network != "host":
        network.loopback_up()
    if request.network == "private":
        network.offer(control)
    try:
        linux.sethostname(request.hostname)
    except PermissionError:  # a container's filter, that has the call go with a capability outside
        if not idmap.confined():
            raise
    linux.join_new_session_keyring()
    os.umask(0o022)
    (hostroot if request.root == "host" else rootfs).build(request, sources)


def streams(
    request: ExecRequest, standard: Sequence[int | None], control: socket.socket
) -> tuple[int, int, int]:
    """Return the command's three standard streams."""
    if request.tty:
        terminal = _terminal(control, request.root == "overlay" and request.join is None)
        return terminal, terminal, terminal
    stdin, stdout, stderr = standard
    return _open(stdin), _open(stdout), _open(stderr)


def _open(fd: int | None) -> int:
    """/dev/null is the sandbox's own: through an fd of the host's, a command could change its mode there."""
    return _open_device("/dev/null", _NULL, os.O_RDWR) if fd is None else fd


def _open_device(path: str, number: int, flags: int) -> int:
    """Open a device of the sandbox's own. Raises StepFailed where a mount of the command's covers it.

    What stands there then may be a link to /proc/self/mem: opened here, that is the memory of this process,
    which has every capability, and the command would have it as its standard input.
    """
    try:
        fd = linux.openat2(linux.AT_FDCWD, path, flags | os.O_NOCTTY, linux.RESOLVE_NO_SYMLINKS)
    except OSError:
        raise mountpoints.failure(os.path.dirname(path), f"the step's own {path} is out of reach") from None
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != number:
        os.close(fd)
        raise mountpoints.failure(os.path.dirname(path), f"{path} is another file then")
    return fd


def _terminal(control: socket.socket, console: bool) -> int:
    """Make a pseudo-terminal in the sandbox's own devpts, so that it has a name there; pass its master to
    the builder.
    """
    master = _open_device("/dev/pts/ptmx", _PTMX, os.O_RDWR)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = int(fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    if console:
        (number,) = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, struct.pack("i", 0)))
        mounts.attach(mounts.clone(linux.AT_FDCWD, f"/dev/pts/{number}"), _console())
    reports.send(control, (reports.TERMINAL,), master)
    os.close(master)
    return slave


def _console() -> int:
    try:
        return linux.openat2(linux.AT_FDCWD, "/dev/console", os.O_PATH, linux.RESOLVE_NO_SYMLINKS)
    except OSError:
        raise mountpoints.failure("/dev", "the step's own /dev/console is out of reach") from None


def start(
    request: ExecRequest,
    stdio: tuple[int, int, int],
    control: socket.socket,
    group: Group | None,
    supervision: Supervision | None,
) -> int:
    """Fork the command; return its pid."""
    ready = entered = -1
    if group is not None:
        ready, entered = os.pipe2(os.O_CLOEXEC)
    command = os.fork()
    if command == 0:
        try:
            if group is not None:
                group.enter()
                os.close(entered)
            _let_go_of_the_host(request, stdio, control, supervision)
            process.become(request, stdio, supervision.theirs if supervision else None)
        except BaseException as error:
            reports.send_error(control, error)
        finally:
            os._exit(127)
    if group is not None:  # once it is said to run, it is where its group is looked for
        os.close(entered)
        os.read(ready, 1)
        os.close(ready)
    pidfd = os.pidfd_open(command)
    reports.send(control, (reports.RUNNING,), pidfd)
    if supervision is not None:
        supervision.begin()
    return command


def _let_go_of_the_host(
    request: ExecRequest,
    stdio: tuple[int, int, int],
    control: socket.socket,
    supervision: Supervision | None,
) -> None:
    """Close every descriptor that the command's process has no use for, before it looks at anything that an
    image or a recipe names: one of a directory of the host's would be a way out, as /proc/self/fd/N in
    WORKDIR or in the path of a program (CVE-2024-21626).
    """
    kept = {*stdio, control.fileno()}
    if supervision is not None:
        kept.add(supervision.theirs.fileno())
    if request.emulator is not None:
        kept.add(request.emulator[3])
    close_all_but([fd for fd in kept if fd > 2])


def reap(command: int) -> int:
    """Wait for `command`, reaping whatever else ends, then kill the rest. Return its exit code, or 128 +
    n.
    """
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == command:
            break
    try:
        os.kill(-1, signal.SIGKILL)  # all of this namespace, but for this process
        while True:
            os.waitpid(-1, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
