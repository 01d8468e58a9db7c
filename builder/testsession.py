"""A container that tests look at: commands are run in it for as long as somebody asks, and then it is gone.

The other end is pybuild_testinfra. In: a line of JSON for each command, {"argv": [...]}. Out: {"ready": ID}
once it can be asked, then for each command {"status": N, "stdout": BASE64, "stderr": BASE64}, or {"error":
TEXT} if it could not be run.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from typing import TYPE_CHECKING, Any

from builder import containerstate
from builder.containerlife import Life
from builder.containerlog import LogWriter, read
from builder.errors import BuildError, StepFailed

if TYPE_CHECKING:
    from typing import BinaryIO

    from builder.executor import ExecRequest, ExecResult, Executor
    from builder.session import Session
    from cache.containers import Container
    from cache.oci.spec import ContainerConfig

_SHOWN = 20  # lines of a service's log


def serve(
    session: Session,
    container: Container,
    request: ExecRequest,
    config: ContainerConfig,
    asked: BinaryIO,
    answers: BinaryIO,
) -> None:
    """Hold a container that `request` starts, and run what is asked in it until there is no more. With an
    `idle` request nothing runs in it by itself, else its HEALTHCHECK must pass first. Raises StepFailed,
    HostError.
    """
    store = session.store.containers
    held = store.create(container)
    try:
        one = _Held(session.executor(), session, container, request, config)
        try:
            one.await_ready()
            _write(answers, {"ready": container.id})
            for line in asked:
                _write(answers, one.run(tuple(json.loads(line)["argv"])))
        finally:
            one.end()
    finally:
        os.close(held)
        store.remove(container.id)


class _Held:
    def __init__(
        self,
        executor: Executor,
        session: Session,
        container: Container,
        request: ExecRequest,
        config: ContainerConfig,
    ) -> None:
        store = session.store.containers
        self._executor = executor
        self._directory = store.directory(container.id)
        self._life = Life(executor, store, container, request, None if request.idle else config)
        self._log = LogWriter(self._directory)
        self._init = -1
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._result: ExecResult | BuildError | None = None
        self._running = executor.start(request, self._log.write)
        self._running.when_begun(self._begin)
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def await_ready(self) -> None:
        """Return when the container's command runs, and is healthy if that can be told. Raises StepFailed."""
        while True:
            self._begun.wait()
            if self._ended.is_set():
                raise self._failure("has ended")
            state = containerstate.load(self._directory)
            if state is not None and state.health in ("", "healthy"):
                return
            if state is not None and state.health == "unhealthy":
                raise self._failure("is unhealthy")
            self._ended.wait(0.02)

    def run(self, argv: tuple[str, ...]) -> dict[str, Any]:
        """Run a command in the container."""
        state = containerstate.load(self._directory)
        if self._ended.is_set() or state is None:
            return {"error": self._failure("has ended").message}
        streams: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        try:
            result = self._executor.run(
                state.request(argv, self._init), lambda stream, data: streams[stream].append(data)
            )
        except StepFailed as error:
            return {"status": error.status, "stdout": "", "stderr": _text(error.message.encode() + b"\n")}
        except BuildError as error:
            return {"error": error.message}
        return {"status": result.status} | {name: _text(b"".join(parts)) for name, parts in streams.items()}

    def end(self) -> None:
        """Kill what runs."""
        self._running.kill(9)
        self._thread.join()
        self._life.end()
        self._log.close()
        if self._init >= 0:
            os.close(self._init)

    def _begin(self, init: int, command: int) -> None:
        self._init = os.dup(init)
        self._life.begin(init, command)
        self._begun.set()

    def _wait(self) -> None:
        try:
            self._result = self._running.wait()
        except BuildError as error:
            self._result = error
        self._ended.set()
        self._begun.set()

    def _failure(self, how: str) -> BuildError:
        if isinstance(self._result, BuildError):
            return self._result
        self._thread.join(0.2)
        code = f" with exit code {self._result.status}" if self._result is not None else ""
        said = b"".join([text for text, _, _ in read(self._directory)][-_SHOWN:])
        tail = f":\n{said.decode(errors='replace').rstrip()}" if said else ""
        return StepFailed(f"the container's command {how}{code}{tail}", status=1, code="test/service")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _write(answers: BinaryIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value).encode() + b"\n")
    answers.flush()
