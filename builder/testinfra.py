"""A connection backend for testinfra, as a pytest plugin: `--hosts=pybuild://root` runs commands on a root
filesystem.

Each command gets a sandbox of its own; what it writes is there for the next one, and gone with the suite.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from testinfra import backend
from testinfra.backend import base

from builder.executor import ExecRequest
from builder.scope import DEFAULT_PATH
from builder.testing import VARIABLE
from cache.oci.platform import Platform

if TYPE_CHECKING:
    from builder.executor import Executor

backend.BACKENDS["pybuild"] = "builder.testinfra.PybuildBackend"

DEFAULT_SHM_SIZE = 64 << 20

_executor: Executor | None = None
_count = 0


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
        result = executor().run(self._request(line), lambda stream, data: streams[stream].append(data))
        return self.result(
            result.status, self.encode(line), b"".join(streams["stdout"]), b"".join(streams["stderr"])
        )

    def _request(self, line: str) -> ExecRequest:
        spec = self._spec
        env = {"PATH": DEFAULT_PATH, **dict(spec["env"])}
        return ExecRequest(
            argv=("/bin/sh", "-c", line),
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


def executor() -> Executor:
    """The executor of this process, started at the first command."""
    global _executor
    if _executor is None:
        from builder.sandbox import Sandbox

        _executor = Sandbox()
    return _executor


def pytest_unconfigure() -> None:
    """End what still runs when pytest is done."""
    global _executor
    if _executor is not None:
        _executor.close()
        _executor = None


def _new_work(staging: str) -> str:
    """Make a work directory for one mount: the kernel marks it as used."""
    global _count
    _count += 1
    path = f"{staging}/work-{_count}"
    os.mkdir(path, 0o700)
    return path
