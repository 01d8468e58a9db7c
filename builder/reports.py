"""What the launcher and a sandbox's pid 1 tell the builder about a step: marshal'ed tuples, one a packet,
maybe an fd.

    (STARTED,) + the pidfd of pid 1      (RUNNING,) + the command's pidfd      (TERMINAL,) + the
    pseudo-terminal (ERROR, whose, code, message, hint, status)                                (EXIT, status,
    limit)
    (NETWORK,) + the network namespace, which is to get a way out

What fails with that is sent the other way: a text. The command never holds the socket: it is closed by its
execve.
"""

from __future__ import annotations

import array
import errno
import marshal
import os
import socket
from typing import Any

from builder.errors import BuildError, HostError, StepFailed

STARTED, RUNNING, TERMINAL, ERROR, EXIT, NETWORK = range(6)

_LONGEST = 1 << 16

PRIVILEGES_HINT = (
    "`pybuild doctor` says what is missing; a container must allow user namespaces and mounts: "
    "--security-opt seccomp=unconfined"
)


def send(control: socket.socket, report: tuple[Any, ...], fd: int | None = None) -> None:
    """Send a report, and a copy of `fd` with it. A builder that is gone is no error."""
    rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    try:
        control.sendmsg([marshal.dumps(report)], rights, socket.MSG_NOSIGNAL)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):
            raise


def receive(control: socket.socket) -> tuple[tuple[Any, ...] | None, int | None]:
    """Return the next report and its fd, which is close-on-exec. No report: nobody is left to send one.

    Raises BlockingIOError on a socket that does not block.
    """
    data, ancillary, _, _ = control.recvmsg(_LONGEST, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for _, _, content in ancillary:
        fds.frombytes(content)
    return (marshal.loads(data) if data else None), (fds[0] if fds else None)


def send_error(control: socket.socket, error: BaseException) -> None:
    """Send `error` as something that the builder can show; nobody else could."""
    if isinstance(error, StepFailed):
        report = (ERROR, "step", error.code, error.message, error.hint, error.status)
    else:
        known = error if isinstance(error, BuildError) else _as_host_error(error)
        report = (ERROR, "host", known.code, known.message, known.hint, 0)
    send(control, report)


def _as_host_error(error: BaseException) -> HostError:
    if isinstance(error, PermissionError):
        return HostError(
            f"this process may not set up a sandbox ({error.strerror})",
            code="host/privileges",
            hint=PRIVILEGES_HINT,
        )
    if isinstance(error, OSError):
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        return HostError(f"the sandbox cannot be set up: {error.strerror}{where}", code="host/sandbox")
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    line = (
        f", line {place.tb_lineno} of {os.path.basename(place.tb_frame.f_code.co_filename)}" if place else ""
    )
    return HostError(
        f"the sandbox cannot be set up: {type(error).__name__}: {error}{line}", code="host/sandbox"
    )
