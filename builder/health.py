"""HEALTHCHECK of a container that runs: the command is executed in it again and again, with docker's
defaults, and what came of it is written down (moby, daemon/health.go).
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from builder import containerstate
from builder.errors import BuildError

if TYPE_CHECKING:
    from builder.executor import ExecRequest, Executor
    from cache.oci.spec import ContainerConfig

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"

_SECOND = 1_000_000_000
_INTERVAL, _START_INTERVAL, _TIMEOUT, _RETRIES = 30 * _SECOND, 5 * _SECOND, 30 * _SECOND, 3


def command(config: ContainerConfig) -> tuple[str, ...] | None:
    """Return what is executed to test a container of the image, None for nothing."""
    check = config.healthcheck
    if check is None or not check.test or check.test[0] == "NONE":
        return None
    if check.test[0] == "CMD-SHELL":
        return (*(config.shell or ("/bin/sh", "-c")), *check.test[1:])
    return check.test[1:] if check.test[0] == "CMD" else None


class HealthChecks:
    """Tests in a thread of their own, from `begin` to `end`."""

    def __init__(self, executor: Executor, directory: str, config: ContainerConfig, request: ExecRequest):
        """`directory` is the container's; `request` runs the test in it."""
        check = config.healthcheck
        assert check is not None
        self._executor = executor
        self._directory = directory
        self._interval = (check.interval or _INTERVAL) / _SECOND
        self._start_interval = (check.start_interval or _START_INTERVAL) / _SECOND
        self._start_period = check.start_period / _SECOND
        self._retries = check.retries or _RETRIES
        self._request = replace(request, timeout=(check.timeout or _TIMEOUT) / _SECOND)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """Start."""
        containerstate.note_health(self._directory, STARTING)
        self._thread.start()

    def end(self) -> None:
        """Stop; a test that runs ends with the container."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        failures, started = 0, False
        while not self._stop.wait(self._pause(started, time.monotonic() - began)):
            if self._passes():
                failures, started, health = 0, True, HEALTHY
            elif not started and time.monotonic() - began < self._start_period:
                continue  # failures count from the first success on, or when it has had its time
            else:
                failures += 1
                if failures < self._retries:
                    continue
                health = UNHEALTHY
            if not self._stop.is_set():
                containerstate.note_health(self._directory, health)

    def _pause(self, started: bool, age: float) -> float:
        starting = not started and age < self._start_period
        return min(self._start_interval, self._interval) if starting else self._interval

    def _passes(self) -> bool:
        try:
            return self._executor.run(self._request, lambda stream, data: None).status == 0
        except (BuildError, OSError):
            return False
