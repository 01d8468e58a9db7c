"""A connection backend for testinfra, as a pytest plugin: `--hosts=pybuild://root` runs commands on a root
filesystem.

All commands run in one sandbox: what one writes, or leaves running, is there for the next, and gone with the
suite.
"""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

from testinfra import backend
from testinfra.backend import base

from builder.containerstate import begun
from builder.errors import BuildError
from builder.executor import ExecRequest
from builder.scope import DEFAULT_PATH
from builder.testing import VARIABLE
from cache.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.executor import Executor

backend.BACKENDS["pybuild"] = "builder.testinfra.PybuildBackend"

DEFAULT_SHM_SIZE = 64 << 20

_executor: Executor | None = None
_held: Held | None = None


class PybuildBackend(base.BaseBackend):  # type: ignore[misc]
    """Runs commands in the sandbox, on the root filesystem that the build handed over."""

    NAME = "pybuild"

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.name = name
        self._spec = json.loads(os.environ[VARIABLE])
        super().__init__(name, *args, **kwargs)

    def run(self, command: str, *args: str, **_kwargs: Any) -> base.CommandResult:
        """Run a shell command; return its exit code and what it wrote."""
        line = self.get_command(command, *args)
        streams: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        sandbox = held(self._request)
        request = sandbox.state.request(("/bin/sh", "-c", line), sandbox.init)
        result = executor().run(request, lambda stream, data: streams[stream].append(data))
        return self.result(
            result.status, self.encode(line), b"".join(streams["stdout"]), b"".join(streams["stderr"])
        )

    def _request(self) -> ExecRequest:
        spec = self._spec
        env = {"PATH": DEFAULT_PATH, **dict(spec["env"])}
        return ExecRequest(
            argv=(),
            idle=True,
            lower=tuple(spec["lower"]),
            upper=spec["staging"] + "/diff",
            work=_new_work(spec["staging"]),
            env=tuple(env.items()),
            platform=Platform.parse(spec["platform"]),
            user=spec["user"],
            workdir=spec["workdir"],
            network=spec["network"],
            extra_hosts=tuple(map(tuple, spec["hosts"])),
            rlimits=tuple(map(tuple, spec["rlimits"])),
            shm_size=DEFAULT_SHM_SIZE if spec["shm_size"] is None else spec["shm_size"],
            no_new_privileges=spec["no_new_privileges"],
            memory=spec["memory"],
            cpus=spec["cpus"],
            pids=spec["pids"],
        )


class Held:
    """The sandbox of the suite, with nothing in it but what is put there."""

    def __init__(self, request: ExecRequest) -> None:
        self._ready = threading.Event()
        self._error: BuildError | None = None
        self._running = executor().start(request, lambda stream, data: None)
        self._running.when_begun(self._begin)
        self._request = request
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Kill what runs in it."""
        self._running.kill(9)
        self._thread.join()
        os.close(self.init)

    def _begin(self, init: int, command: int) -> None:
        self.init = os.dup(init)
        self.state = begun(self._request, init, command, 0)
        self._ready.set()

    def _wait(self) -> None:
        try:
            self._running.wait()
        except BuildError as error:
            self._error = error
        self._ready.set()


def held(request: Callable[[], ExecRequest]) -> Held:
    """The sandbox of this process, made of `request` at the first command. Raises HostError."""
    global _held
    if _held is None:
        _held = Held(request())
    return _held


def executor() -> Executor:
    """The executor of this process, started at the first command."""
    global _executor
    if _executor is None:
        from builder.sandbox import Sandbox

        told = json.loads(os.environ[VARIABLE]).get("snapshots") if VARIABLE in os.environ else None
        if told is None:
            _executor = Sandbox()
        else:
            from builder import snapshots
            from builder.snapshotexecutor import SnapshotExecutor

            made = snapshots.use_told(*told)  # first: the sandboxes are to see what it mounts
            _executor = SnapshotExecutor(Sandbox(), made)
    return _executor


def pytest_unconfigure() -> None:
    """End what still runs when pytest is done."""
    global _executor, _held
    if _held is not None:
        _held.close()
        _held = None
    if _executor is not None:
        _executor.close()
        _executor = None
        from builder import snapshots

        snapshots.end()


def _new_work(staging: str) -> str:
    """Make a work directory: the kernel marks it as used."""
    path = f"{staging}/work-suite"
    os.mkdir(path, 0o700)
    return path
