"""The executor of Linux namespaces, as the builder sees it. What happens in a sandbox begins in
builder/init.py.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from builder import wire
from builder.cgroups import wanted
from builder.errors import StepFailed
from builder.launcher import Launcher
from builder.running import SandboxRunning
from cache.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from builder.emulation import Emulation
    from builder.executor import ExecRequest, ExecResult, Output, Stream
    from builder.privatenetwork import Outside


class Sandbox:
    """Runs each command in namespaces of its own, on an overlay of the request's directories."""

    def __init__(self, launcher: Launcher | None = None) -> None:
        """Start the launcher, unless one is given; either is closed with this. Raises HostError without
        root.
        """
        self._launcher = launcher or Launcher.start()
        self._running: set[SandboxRunning] = set()
        self._emulation: Emulation | None = None
        self._lock = Lock()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, request: ExecRequest, output: Output) -> SandboxRunning:
        """Start a command; its output is passed on while somebody waits for it. Raises HostError."""
        started = time.monotonic()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        streams: dict[int, Stream] = {}
        passed: list[int] = []  # opened here for the sandbox alone
        try:
            fds: list[int] = []
            if request.platform is not None:
                request = self._emulated(request, request.platform, passed)
            standard = _standard(request, streams, passed)
            payload = _memory("request", wire.encode(request, standard, fds))
            passed.append(payload)
            kind = "join" if request.join is not None else "limited" if wanted(request) else "plain"
            self._launcher.submit(theirs.fileno(), payload, fds, kind)
        except BaseException:
            ours.close()
            for fd in streams:
                os.close(fd)
            raise
        finally:
            theirs.close()
            for fd in passed:
                os.close(fd)

        def connect(namespace: int, failed: Callable[[str], None]) -> Outside:
            from builder.privatenetwork import Outside

            return Outside(self, request, namespace, failed)

        running = SandboxRunning(ours, streams, output, request, started, self._forget, connect)
        with self._lock:
            self._running.add(running)
        return running

    def run(self, request: ExecRequest, output: Output) -> ExecResult:
        """Start a command and wait for its end. Raises CommandError where it could not be started,
        HostError.
        """
        return self.start(request, output).wait()

    def close(self) -> None:
        """Kill what still runs, and release everything."""
        with self._lock:
            left = tuple(self._running)
        for running in left:
            running.abandon()
        self._launcher.close()

    def _emulated(self, request: ExecRequest, platform: Platform, passed: list[int]) -> ExecRequest:
        """Return `request` with what runs the programs of its platform, opened to be `passed`, where that is
        not this machine. Raises HostError.
        """
        host = Platform.host()
        if (platform.os, platform.normalised().architecture) == (host.os, host.architecture):
            return request
        with self._lock:
            if self._emulation is None:
                from builder.emulation import Emulation

                self._emulation = Emulation(self._succeeds)
        emulator = self._emulation.emulator(platform)
        if emulator is None:
            return request
        passed.append(os.open(emulator.path, os.O_RDONLY | os.O_CLOEXEC))
        handler = emulator.name, emulator.magic, emulator.mask, passed[-1]
        return replace(request, emulator=handler)

    def _succeeds(self, request: ExecRequest) -> bool:
        try:
            return self.run(request, lambda stream, data: None).status == 0
        except StepFailed:
            return False

    def _forget(self, running: SandboxRunning) -> None:
        with self._lock:
            self._running.discard(running)


def _standard(request: ExecRequest, streams: dict[int, Stream], passed: list[int]) -> list[int | None]:
    """Return the command's standard streams. Our ends of pipes go to `streams`, what the sandbox gets to
    `passed`.
    """
    if request.tty:
        return []
    if request.stdio is not None:
        return list(request.stdio)
    result: list[int | None] = []
    if isinstance(request.stdin, bytes):
        passed.append(_memory("stdin", request.stdin))
        result.append(passed[-1])
    else:
        result.append(request.stdin)
    names: tuple[Stream, Stream] = ("stdout", "stderr")
    for name in names:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        streams[ours] = name
        passed.append(theirs)
        result.append(theirs)
    return result


def _memory(name: str, data: bytes) -> int:
    """Return an fd to read `data` from: a pipe would want a writer that keeps up."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
