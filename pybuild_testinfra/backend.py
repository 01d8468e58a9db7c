"""The connection backend: one container for each host of a pytest run, held by `pybuild test --serve`.

The commands go to that process as lines of JSON, and their results come back so. What tests write is there
for the next one, and gone with the run; if pytest is killed, the end of the pipe ends the container.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import Any
from urllib.parse import parse_qsl, unquote

from testinfra.backend import base

PROGRAM = "PYBUILD"
"""The environment variable with the command that runs pybuild, if it is not `pybuild` beside this Python or
in $PATH.
"""

_OPTIONS = {"user": "--user", "network": "--network", "root": "--root"}
_sessions: dict[str, _Session] = {}


class PybuildBackend(base.BaseBackend):  # type: ignore[misc]
    """Runs commands in a container of an image."""

    NAME = "pybuild"

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.name = name
        super().__init__(name, *args, **kwargs)

    def run(self, command: str, *args: str, **_kwargs: Any) -> base.CommandResult:
        """Run a shell command; return its exit code and what it wrote."""
        line = self.get_command(command, *args)
        status, out, err = session(self.name).run(("/bin/sh", "-c", line))
        return self.result(status, self.encode(line), out, err)


class _Session:
    """A container, and the process that holds it."""

    def __init__(self, spec: str) -> None:
        image, _, query = spec.partition("?")
        self._process = subprocess.Popen(
            [*_program(), "test", "--serve", *_options(spec, query), unquote(image)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._answer()

    def run(self, argv: tuple[str, ...]) -> tuple[int, bytes, bytes]:
        """Return the exit code, standard output and standard error of a command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"argv": argv}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(f"pybuild: {answer['error']}")
        return answer["status"], base64.b64decode(answer["stdout"]), base64.b64decode(answer["stderr"])

    def close(self) -> None:
        """End the container."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failure(self) -> RuntimeError:
        _, said = self._process.communicate()
        return RuntimeError(f"pybuild ended with {self._process.returncode}: {said.decode(errors='replace')}")


def session(spec: str) -> _Session:
    """Return the session of a host, started at the first command."""
    found = _sessions.get(spec)
    if found is None:
        found = _sessions[spec] = _Session(spec)
    return found


def close() -> None:
    """End all of them."""
    while _sessions:
        _sessions.popitem()[1].close()


def _options(spec: str, query: str) -> list[str]:
    options: list[str] = []
    for name, value in parse_qsl(query):
        if name == "start":
            options += ["--start"] if value.lower() in ("1", "true", "yes") else []
        elif name in _OPTIONS:
            options.append(f"{_OPTIONS[name]}={value}")
        else:
            known = ", ".join(["start", *_OPTIONS])
            raise ValueError(f"--hosts=pybuild://{spec}: {name!r} is not known; there are {known}")
    return options


def _program() -> list[str]:
    given = os.environ.get(PROGRAM)
    if given:
        return shlex.split(given)
    beside = os.path.join(os.path.dirname(sys.executable), "pybuild")
    found = beside if os.access(beside, os.X_OK) else shutil.which("pybuild")
    if found is None:
        raise RuntimeError(f"pybuild is not in $PATH; ${PROGRAM} can say how it is run")
    return [found]
