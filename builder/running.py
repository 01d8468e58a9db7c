"""A command in a sandbox, as the builder holds it: its output, its signals, and how it ended."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import termios
import time
from contextlib import suppress
from threading import Lock, RLock, Thread
from typing import TYPE_CHECKING, Any, Literal

from builder import reports
from builder.errors import HostError
from builder.executor import CommandError, ExecResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.executor import ExecRequest, Output, Stream
    from builder.privatenetwork import Outside

_CHUNK = 1 << 16


class SandboxRunning:
    """A command in a sandbox. It has ended when pid 1 of the sandbox has: then its whole pid namespace is
    dead.
    """

    def __init__(
        self,
        control: socket.socket,
        streams: dict[int, Stream],
        output: Output,
        request: ExecRequest,
        started: float,
        forget: Callable[[SandboxRunning], None],
        connect: Callable[[int, Callable[[str], None]], Outside],
    ) -> None:
        """control: where the reports come in; streams: ends of pipes to read; forget: called at the end;
        connect: gives the network namespace of that fd a way out.
        """
        self._control = control
        self._streams = streams
        self._output = output
        self._started = started
        self._deadline = None if request.timeout is None else started + request.timeout
        self._forget = forget
        self._connect = connect
        self._outside: Outside | None = None
        self._poll = select.poll()
        for fd in (control.fileno(), *streams):
            self._poll.register(fd, select.POLLIN)
        self._listening = True
        self._status: int | None = None
        self._limit: Literal["", "memory", "pids"] = ""
        self._error: CommandError | HostError | None = None
        self._killed = self._timed_out = self._finished = False
        self._owner = RLock()  # held by who reads: one waits, nobody else may take the fds away meanwhile
        self._lock = (
            Lock()
        )  # guards what other threads reach for: the fds below, and what is to be done with them
        self._init: int | None = None
        self._command: int | None = None
        self._terminal: int | None = None
        self._signals: list[int] = []
        self._size: tuple[int, int] | None = None
        self._begun: Callable[[int, int], None] | None = None
        self._typed = request.stdin if request.tty and isinstance(request.stdin, bytes) else b""

    def wait(self) -> ExecResult:
        """Pass the output on until the command has ended, and all that it left running. Raises
        CommandError.
        """
        with self._owner:
            try:
                while not self._pump(self._patience()):
                    self._check_deadline()
                self._drain()
            finally:
                self._finish()
        return self._result()

    def when_begun(self, tell: Callable[[int, int], None]) -> None:
        """Have `tell` called with the pidfds of pid 1 and of the command once there are both, in the thread
        that waits. They stay ours. To be said before it does.
        """
        self._begun = tell

    def kill(self, number: int) -> None:
        """Send a signal to the command; SIGKILL ends all of its processes. From any thread; too late is
        no error.
        """
        with self._lock:
            if self._finished:
                return
            self._killed = self._killed or number == signal.SIGKILL
            self._signals.append(number)
            self._send_signals()

    def resize(self, rows: int, columns: int) -> None:
        """Give the pseudo-terminal its size, now or as soon as it is there."""
        with self._lock:
            self._size = rows, columns
            self._apply_size()

    def write(self, data: bytes) -> None:
        """Type `data` on the pseudo-terminal. Raises OSError when the command is gone."""
        with self._lock:
            if self._terminal is None and not self._finished:
                self._typed += data
                return
            terminal = os.dup(-1 if self._terminal is None else self._terminal)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(terminal, view) :]
        finally:
            os.close(terminal)

    def abandon(self) -> None:
        """Kill everything, and return when it is dead. Without effect on a command that has ended."""
        self.kill(signal.SIGKILL)
        with self._owner:
            self._finish()

    # The reading side

    def _patience(self) -> float | None:
        """Return for how many milliseconds to wait for something to happen."""
        if self._deadline is None or self._timed_out:
            return None
        return max(0.0, (self._deadline - time.monotonic()) * 1000)

    def _check_deadline(self) -> None:
        if self._deadline is not None and not self._timed_out and time.monotonic() >= self._deadline:
            self._timed_out = True
            self.kill(signal.SIGKILL)

    def _pump(self, patience: float | None) -> bool:
        """Wait for something, and deal with it. Return whether the command has ended."""
        ended = False
        for fd, _ in self._poll.poll(patience):
            if fd == self._init:
                ended = True
            elif fd in self._streams:
                self._read(fd)
            else:
                self._listen()
        return ended or not (self._listening or self._init is not None)

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except OSError:  # EIO: nobody has the pseudo-terminal open any more
            data = b""
        if data:
            self._output(self._streams[fd], data)
            return
        self._poll.unregister(fd)
        del self._streams[fd]
        if fd != self._terminal:
            os.close(fd)

    def _listen(self) -> None:
        report, fd = reports.receive(self._control)
        if report is None:
            self._poll.unregister(self._control.fileno())
            self._listening = False
        else:
            self._note(report, fd)

    def _note(self, report: tuple[Any, ...], fd: int | None) -> None:
        kind = report[0]
        if kind == reports.EXIT:
            self._status, self._limit = report[1:]
        elif kind == reports.ERROR:
            self._error = self._error or _error(report)
        elif kind == reports.NETWORK and fd is not None:
            self._give_way_out(fd)
        elif fd is not None:
            with self._lock:
                self._keep(kind, fd)
            if self._begun is not None and self._init is not None and self._command is not None:
                begun, self._begun = self._begun, None
                begun(self._init, self._command)

    def _give_way_out(self, namespace: int) -> None:
        try:
            self._outside = self._connect(namespace, self._has_no_way_out)
        except HostError as error:
            self._error = self._error or error
            self._has_no_way_out(error.message)
        finally:
            os.close(namespace)

    def _has_no_way_out(self, reason: str) -> None:
        """Tell pid 1, which waits for one, unless it goes on already."""
        with suppress(OSError):
            self._control.sendmsg([reason.encode() or b"?"], [], socket.MSG_NOSIGNAL)

    def _keep(self, kind: int, fd: int) -> None:
        """Take over an fd, and do with it what was asked for before it was there."""
        if kind == reports.STARTED:
            self._init = fd
        elif kind == reports.RUNNING:
            self._command = fd
        else:
            self._terminal = fd
            self._streams[fd] = "stdout"
            self._apply_size()
            if self._typed:
                Thread(target=self.write, args=(self._typed,), daemon=True).start()
        if kind != reports.RUNNING:
            self._poll.register(fd, select.POLLIN)
        self._send_signals()

    def _send_signals(self) -> None:
        """Send the signals whose receiver is known by now."""
        later: list[int] = []
        for number in self._signals:
            pidfd = self._init if number == signal.SIGKILL else self._command
            if pidfd is None:
                later.append(number)
                continue
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
        self._signals = later

    def _apply_size(self) -> None:
        if self._terminal is not None and self._size is not None:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("4H", *self._size, 0, 0))

    # The end

    def _drain(self) -> None:
        """Read what is left in pipes and socket. Their other ends can be open still, in a process that
        got one sent.
        """
        if self._init is not None:
            self._poll.unregister(self._init)
        while (self._listening or self._streams) and self._poll.poll(0):
            self._pump(0)

    def _finish(self) -> None:
        """Make sure that everything is dead, and close all fds."""
        if self._finished:
            return
        try:
            self._await_death()
            if self._outside is not None:
                self._outside.close()
        finally:
            with self._lock:
                self._finished = True
                open_fds = {self._init, self._command, self._terminal, *self._streams} - {None}
                self._init = self._command = self._terminal = None
            for fd in open_fds:
                assert fd is not None
                os.close(fd)
            self._control.close()
            self._forget(self)

    def _await_death(self) -> None:
        """Kill pid 1 and wait for its end; before that, for word of it, if it has just been asked for."""
        while self._init is None and self._listening:
            poll = select.poll()
            poll.register(self._control.fileno(), select.POLLIN)
            poll.poll()
            self._listen()
        if self._init is None:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
        poll = select.poll()
        poll.register(self._init, select.POLLIN)
        poll.poll()

    def _result(self) -> ExecResult:
        if self._timed_out:
            return ExecResult(128 + signal.SIGKILL, time.monotonic() - self._started, timed_out=True)
        if self._error is not None:
            raise self._error
        status = self._status
        if status is None:
            if not self._killed:
                raise HostError(
                    "the sandbox was killed from outside",
                    code="host/killed",
                    hint="if memory ran out, `dmesg | tail` says so",
                )
            status = 128 + signal.SIGKILL
        return ExecResult(status, time.monotonic() - self._started, limit=self._limit)


def _error(report: tuple[Any, ...]) -> CommandError | HostError:
    _, whose, code, message, hint, status = report
    if whose == "step":
        return CommandError(message, code=code, hint=hint, status=status)
    return HostError(message, code=code, hint=hint)
