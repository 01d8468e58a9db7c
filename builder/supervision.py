"""Pid 1 of a sandbox as the supervisor of its command: the descriptors for it, and the loop.

Imported by the launcher: nothing heavy.
"""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING

from builder import caller, reports
from builder.credentials import Credentials
from cache import idmap, ownership

if TYPE_CHECKING:
    from builder.executor import ExecRequest
    from builder.supervisor import Supervisor

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def supervision(request: ExecRequest) -> Supervision | None:
    """Return what answers the command's calls; None if the kernel does, which is what it is for."""
    if idmap.single():
        return Supervision(request, devices=False)
    if request.emulator is not None and not idmap.confined():
        return Supervision(request, devices=True)
    return None


class Supervision:
    """Made while the host's file systems are in sight; `begin` after the fork, `run` until the command has
    ended, `finish` when all of its processes have. `devices`: device nodes are all that it is for.
    """

    def __init__(self, request: ExecRequest, *, devices: bool) -> None:
        # In a step's root there is nothing to import from.
        from builder.refusals import Refusals
        from builder.supervisor import DeviceMaker, Supervisor

        self._root: type[Supervisor] = DeviceMaker if devices else Supervisor
        self._user: type[Supervisor] = DeviceMaker if devices else Refusals
        self._outer = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._proc = -1
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._upper = self._above = -1
        self._name = ""
        if request.upper is not None:
            above, self._name = os.path.split(request.upper)
            self._upper = os.open(request.upper, _DIRECTORY)
            self._above = os.open(above, _DIRECTORY)
        self._listener: int | None = None
        self._supervisor: Supervisor | None = None

    @property
    def fds(self) -> list[int]:
        """The descriptors that it needs to the end."""
        found = (self._upper, self._above, self._listener, self._proc)
        return [fd for fd in found if fd is not None and fd >= 0]

    def begin(self) -> None:
        """Take over the descriptor that the command's calls are put to; there is none if it could not
        start.
        """
        self.theirs.close()
        self._proc = caller.pin(self._outer)
        identity, self._listener = reports.receive(self._ours)
        self._ours.close()
        if self._listener is None or identity is None:
            return
        kind = self._root if identity[:2] == (0, 0) else self._user
        self._supervisor = kind(self._listener, self._upper, self._proc, Credentials.of(identity))

    def run(self, command: int) -> None:
        """Answer calls until the process `command` has ended. It is not reaped."""
        if self._listener is None or self._supervisor is None:
            return
        poll = select.poll()
        pidfd = os.pidfd_open(command)
        poll.register(pidfd, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        while True:
            for fd, event in poll.poll():
                if fd == pidfd:
                    os.close(pidfd)
                    return
                if event & select.POLLIN:
                    self._supervisor.answer()
                else:
                    poll.unregister(fd)

    def settle(self) -> None:
        """Give what the command made last to whom it belongs."""
        if self._supervisor is not None:
            self._supervisor.settle()

    def finish(self) -> None:
        """Leave the owners that no attribute holds beside the upperdir."""
        if self._supervisor is not None and self._upper >= 0:
            ownership.write_table(self._name, self._supervisor.owners(), directory=self._above)
