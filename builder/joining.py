"""A command in a sandbox that runs already: a child of the launcher that enters its namespaces, and there
has a child of its own start the command and wait for it.

The former stays outside of the sandbox's pid namespace, the latter is in it. So the command ends with the
sandbox (the kernel kills all of a pid namespace with its first process), and with whoever waits for it, too:
each of them dies with its parent.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NoReturn

from builder import init, linux, reports, wire
from builder.errors import HostError
from builder.supervision import supervision as supervise

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from builder.cgroups import Group
    from builder.executor import ExecRequest
    from builder.supervision import Supervision

_NAMESPACES = (
    linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP | linux.CLONE_NEWPID
)


def run(control: socket.socket, payload: int, fds: Sequence[int], launcher: int) -> NoReturn:
    """Carry out the request in the memfd `payload`, and exit. `launcher` is the launcher's pidfd."""
    try:
        init.depend_on(launcher)
        request, standard = wire.decode(os.pread(payload, os.fstat(payload).st_size, 0), fds)
        assert request.join is not None
        group = _group(request.groups)
        supervision = supervise(request)
        # The host's network is in a user namespace that we may not be root of.
        network = 0 if request.network == "host" else linux.CLONE_NEWNET
        _enter(request.join, _NAMESPACES | network)
        keeper = os.fork()
        if keeper == 0:
            _keep(control, request, standard, group, supervision)
        init.close_all_but([control.fileno()])
        if os.waitpid(keeper, 0)[1]:  # killed with the sandbox, before it could tell anything
            reports.send(control, (reports.EXIT, 128 + signal.SIGKILL, ""))
    except BaseException as error:
        reports.send_error(control, error)
    finally:
        os._exit(0)


def _keep(
    control: socket.socket,
    request: ExecRequest,
    standard: Sequence[int | None],
    group: Group | None,
    supervision: Supervision | None,
) -> NoReturn:
    """Start the command, wait for it, and exit. In the sandbox's pid namespace: what pids mean to whom
    supervises the command, and in /proc, is the same.
    """
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid():  # the parent is outside, and so 0, unless it died before the signal was asked for
            os._exit(0)
        linux.join_new_session_keyring()
        os.umask(0o022)
        stdio = init.streams(request, standard, control)
        command = init.start(request, stdio, control, group, supervision)
        kept = [fd for fd, _ in group.fds.values()] if group else []
        kept += supervision.fds if supervision else []
        init.close_all_but([control.fileno(), *kept])
        if supervision is not None:
            supervision.run(command)
        code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        if supervision is not None:
            supervision.settle()
        reports.send(control, (reports.EXIT, code if code >= 0 else 128 - code, ""))
    except BaseException as error:
        reports.send_error(control, error)
    finally:
        os._exit(0)


def _enter(pidfd: int, namespaces: int) -> None:
    try:
        linux.setns(pidfd, namespaces)
    except ProcessLookupError:
        raise HostError("the container has ended", code="container/stopped") from None


def _group(directories: Sequence[str]) -> Group | None:
    if not directories:
        return None
    from builder.cgroups import Group

    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    return Group({path: (os.open(path, flags), 2) for path in directories})
