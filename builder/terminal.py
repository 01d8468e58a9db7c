"""A container's command on the user's own streams: a terminal in raw mode, or pipes and signals passed on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from types import FrameType

    from builder.executor import ExecRequest, ExecResult, Executor, Running

PASSED_ON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


Begun = Callable[[int, int], None]
"""Called with the pidfds of pid 1 and of the command, once they are there."""


def attach(
    executor: Executor, request: ExecRequest, *, interactive: bool, begun: Begun | None = None
) -> ExecResult:
    """Run the request's command on our standard streams; return how it ended.

    With `request.tty` it gets a terminal of its own, and ours is raw meanwhile; with `interactive` our
    standard input reaches it. Signals that would end us reach it instead.
    """
    if request.tty:
        if interactive and not os.isatty(0):
            raise UsageError("the input is not a terminal", code="run/tty", hint="leave -t out")
        return _on_terminal(executor, request, interactive, begun)
    stdin = 0 if interactive else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sys.stdout.flush()
        running = executor.start(replace(request, stdio=(stdin, 1, 2)), lambda *_: None)
        if begun is not None:
            running.when_begun(begun)
        with Signals(running, PASSED_ON):
            return running.wait()
    finally:
        if stdin:
            os.close(stdin)


def _on_terminal(
    executor: Executor, request: ExecRequest, interactive: bool, begun: Begun | None
) -> ExecResult:
    running = executor.start(request, lambda _stream, data: _write_all(1, data))
    if begun is not None:
        running.when_begun(begun)
    with (
        Signals(running, PASSED_ON),
        _RawTerminal(interactive),
        _WindowSize(running),
        _Typing(running, interactive),
    ):
        return running.wait()


class _Typing:
    """Passes what is typed on while the command runs, and takes nothing of what comes after that: it is for
    whoever has the terminal next.
    """

    def __init__(self, running: Running, wanted: bool) -> None:
        self._running = running
        self._wanted = wanted
        self._stop = (-1, -1)
        self._thread = threading.Thread(target=self._pass_on, daemon=True)

    def __enter__(self) -> None:
        if self._wanted:
            self._stop = os.pipe2(os.O_CLOEXEC)
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        if self._wanted:
            os.close(self._stop[1])
            self._thread.join()
            os.close(self._stop[0])

    def _pass_on(self) -> None:
        import select

        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self._stop[0], select.POLLHUP)
        try:
            while not any(fd == self._stop[0] for fd, _ in poll.poll()):
                data = os.read(0, 4096)
                if not data:
                    return
                self._running.write(data)
        except OSError:
            return


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Signals:
    """Passes signals on to the command for as long as it runs."""

    def __init__(self, running: Running, numbers: tuple[signal.Signals, ...]) -> None:
        self._running = running
        self._numbers = numbers
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> None:
        for number in self._numbers:
            self._before[number] = signal.signal(number, self._pass_on)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        # In a thread: what a handler interrupts may hold the very lock that is needed to send a signal.
        threading.Thread(target=self._running.kill, args=(number,), daemon=True).start()


class _RawTerminal:
    """Our terminal hands every key through, and is as it was afterwards."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted and os.isatty(0)
        self._saved: list[object] | None = None

    def __enter__(self) -> None:
        if self._wanted:
            import termios
            import tty

            self._saved = termios.tcgetattr(0)
            tty.setraw(0)

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]


class _WindowSize:
    """Tells the container's terminal the size of ours, now and whenever it changes."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def __enter__(self) -> None:
        self._tell()
        signal.signal(signal.SIGWINCH, lambda *_: self._tell())

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)

    def _tell(self) -> None:
        try:
            size = os.get_terminal_size(1)
        except OSError:
            return
        self._running.resize(size.lines, size.columns)
