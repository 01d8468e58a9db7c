"""An executor whose root filesystems are made before the sandbox is, by another driver than the kernel's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder import snapshots

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.executor import ExecRequest, ExecResult, Executor, Output, Running
    from builder.snapshotroots import Root
    from builder.snapshots import Snapshots


class SnapshotExecutor:
    """Prepares each request for `executor`, and takes over what its command wrote."""

    def __init__(self, executor: Executor, made: Snapshots) -> None:
        self._executor = executor
        self._snapshots = made

    def start(self, request: ExecRequest, output: Output) -> Running:
        """As `Executor.start`."""
        if request.root == "host" or request.join is not None:
            return self._executor.start(request, output)
        ready, opened = self._snapshots.prepare(request)
        try:
            return _PreparedRunning(self._executor.start(ready, output), opened)
        except BaseException:
            snapshots.close(opened, keep=False)
            raise

    def run(self, request: ExecRequest, output: Output) -> ExecResult:
        """As `Executor.run`."""
        return self.start(request, output).wait()

    def close(self) -> None:
        """As `Executor.close`."""
        self._executor.close()


class _PreparedRunning:
    """A command that runs on prepared roots, which are closed when it has ended."""

    def __init__(self, running: Running, opened: list[Root]) -> None:
        self._running = running
        self._opened = opened

    def wait(self) -> ExecResult:
        """As `Running.wait`. What a command wrote that failed is taken over, too."""
        keep = False
        try:
            result = self._running.wait()
            keep = True
        finally:
            snapshots.close(self._opened, keep=keep)
        return result

    def when_begun(self, tell: Callable[[int, int], None]) -> None:
        """As `Running.when_begun`."""
        self._running.when_begun(tell)

    def kill(self, signal: int) -> None:
        """As `Running.kill`."""
        self._running.kill(signal)

    def resize(self, rows: int, columns: int) -> None:
        """As `Running.resize`."""
        self._running.resize(rows, columns)

    def write(self, data: bytes) -> None:
        """As `Running.write`."""
        self._running.write(data)
