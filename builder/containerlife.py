"""A container from the start of its command to its end: who needs to know of it does, and nothing is left."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from builder import containerstate, health

if TYPE_CHECKING:
    from builder.detached import Detached
    from builder.executor import ExecRequest, ExecResult, Executor
    from cache.containers import Container, ContainerStore
    from cache.oci.spec import ContainerConfig

_COMMON_NAME = "pybuild-init"
_PATIENCE = 5.0  # seconds for a command to be executed


class Life:
    """What goes on beside the command: its processes are written down, its health is tested."""

    def __init__(
        self,
        executor: Executor,
        store: ContainerStore,
        container: Container,
        request: ExecRequest,
        config: ContainerConfig | None,
    ) -> None:
        """`config`: of the image, None if no health is to be tested."""
        self._executor = executor
        self._directory = store.directory(container.id)
        self._request = request
        self._config = config
        self._checks: health.HealthChecks | None = None

    def begin(self, init: int, command: int) -> None:
        """Note the pidfds of the container's first processes."""
        state = containerstate.begun(self._request, init, command, int(time.time()))
        containerstate.save(self._directory, state)
        argv = health.command(self._config) if self._config is not None else None
        if self._config is not None and argv is not None:
            request = state.request(argv, init)
            self._checks = health.HealthChecks(self._executor, self._directory, self._config, request)
            self._checks.begin()

    def end(self) -> None:
        """The container has ended."""
        if self._checks is not None:
            self._checks.end()
        containerstate.forget(self._directory)


def serve(
    life: Life, executor: Executor, request: ExecRequest, directory: str, detached: Detached, text: str
) -> ExecResult:
    """Run the container in the background: what it writes goes to its log. `text` is told to the user once
    the command is executed. Raises CommandError if it cannot be.
    """
    from builder.containerlog import LogWriter
    from builder.terminal import PASSED_ON, Signals

    log = LogWriter(directory)

    def begin(init: int, command: int) -> None:
        life.begin(init, command)
        pid = containerstate.pid_of(command)
        threading.Thread(target=_announce, args=(pid, detached, text), daemon=True).start()

    running = executor.start(replace(request, stdin=None), log.write)
    running.when_begun(begin)
    if request.tty:
        running.resize(24, 80)
    try:
        with Signals(running, PASSED_ON):
            result = running.wait()
        detached.ready(text)
        return result
    finally:
        log.close()


def _announce(pid: int, detached: Detached, text: str) -> None:
    """Call `ready` when the process has become its command: until then, it may still not be one."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                if file.read().strip() != _COMMON_NAME:
                    break
        except OSError:
            return  # it has ended, and who waits for it knows how
        time.sleep(0.002)
    detached.ready(text)
