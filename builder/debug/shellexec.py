"""A shell where a step's command would be: the executor that starts it instead.

So it gets what the command gets, from whatever prepares that: root filesystem, environment, user, directory,
network, mounts, secrets and agents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from builder.debug.kit import Kit, Wish
    from builder.executor import ExecRequest, ExecResult, Executor, Output, Running


class ShellEnded(Exception):
    """The shell has ended: with an exit code, by a wish or (None) by itself."""

    def __init__(self, status: int, wish: Wish | None) -> None:
        super().__init__()
        self.status = status
        self.wish = wish


class ShellExecutor:
    """Starts a shell in place of the next command, and raises ShellEnded when it has ended.

    `command`: what the shell carries out; None for one that is typed in, and begins in `directory` ("" for
    the command's). `user` is in place of the command's, "" for that.
    """

    def __init__(
        self,
        executor: Executor,
        kit: Kit,
        *,
        command: str | None = None,
        directory: str = "",
        user: str = "",
        before: Callable[[ExecRequest], None] = lambda request: None,
    ) -> None:
        """`before` is called right before the shell starts."""
        self._executor = executor
        self._kit = kit
        self._command = command
        self._directory = directory
        self._user = user
        self._before = before

    def start(self, request: ExecRequest, output: Output) -> _Shell:
        """Return a running command that is a shell."""
        from dataclasses import replace

        if self._user:
            request = replace(request, user=self._user)
        self._before(request)
        return _Shell(self, request)

    def run(self, request: ExecRequest, output: Output) -> ExecResult:
        """Raise ShellEnded, after a while."""
        return self.start(request, output).wait()

    def close(self) -> None:
        """Leave the executor as it is: it is another's."""

    def attach(self, request: ExecRequest) -> NoReturn:
        """Run the shell on our standard streams, and raise ShellEnded."""
        from builder.terminal import attach

        if self._command is not None:
            request = self._kit.carrying_out(request, self._command)
            raise ShellEnded(attach(self._executor, request, interactive=True).status, None)
        request = self._kit.interactive(request, self._directory or request.workdir)
        ended = _Ending(self._executor)
        with self._kit.listen(ended.end) as listening:
            result = attach(ended, request, interactive=True)
        raise ShellEnded(result.status, listening.wish)


class _Shell:
    """A shell in place of a running command."""

    def __init__(self, shell: ShellExecutor, request: ExecRequest) -> None:
        self._shell = shell
        self._request = request

    def wait(self) -> ExecResult:
        """Raise ShellEnded when it has ended."""
        self._shell.attach(self._request)

    def when_begun(self, tell: Callable[[int, int], None]) -> None:
        """Tells nobody: nobody asks for a step's processes."""

    def kill(self, signal: int) -> None:
        """Nothing else runs that could want it."""

    def resize(self, rows: int, columns: int) -> None:
        """The shell's terminal is told by who attaches it."""

    def write(self, data: bytes) -> None:
        """Types nothing: the terminal does."""


class _Ending:
    """The executor, with the command that it started last at hand to be ended."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._running: Running | None = None

    def start(self, request: ExecRequest, output: Output) -> Running:
        """Start a command."""
        self._running = running = self._executor.start(request, output)
        return running

    def run(self, request: ExecRequest, output: Output) -> ExecResult:
        """Start a command and wait."""
        return self.start(request, output).wait()

    def close(self) -> None:
        """It is another's."""

    def end(self) -> None:
        """Kill the command, and all that it has started."""
        import signal

        if self._running is not None:
            self._running.kill(signal.SIGKILL)
