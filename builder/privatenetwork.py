"""A network of one's own with a way out: pasta(1), of the passt project, between a sandbox's network
namespace and the host's. It takes no privilege on the host, and no interface or rule is made there.

pasta runs in a sandbox itself, so that it dies with the launcher, whoever kills whom.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from builder.errors import BuildError, HostError
from builder.network import FORWARDED_RESOLVER, is_resolver_ours

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.executor import ExecRequest, Executor, Running, Stream

_TAIL = 2000


def program() -> str:
    """Return the path of pasta. Raises HostError if it is not there."""
    from shutil import which

    path = which("pasta")
    if path is None:
        raise HostError(
            "a private network needs pasta",
            code="host/network",
            hint="apt-get install passt (or the package of that name of your distribution)",
        )
    return path


def arguments(request: ExecRequest) -> tuple[str, ...]:
    """Return pasta's arguments for the request's network, but for its namespace: nothing of the host's
    loopback is within reach, and no port but those published.
    """
    ports: list[str] = []
    for protocol, address, host, container in request.ports:
        option = "-t" if protocol == "tcp" else "-u"
        ports += [option, f"{address}/{host}:{container}" if address else f"{host}:{container}"]
    for protocol, option in (("tcp", "-t"), ("udp", "-u")):
        if not any(port[0] == protocol for port in request.ports):
            ports += [option, "none"]
    forward = ("--dns-forward", FORWARDED_RESOLVER) if is_resolver_ours() else ()
    return ("-f", "-q", "--config-net", "--no-map-gw", *forward, *ports, "-T", "none", "-U", "none")


class Outside:
    """pasta for one sandbox, from the start to `close`."""

    def __init__(
        self, executor: Executor, request: ExecRequest, namespace: int, failed: Callable[[str], None]
    ) -> None:
        """`namespace`: the sandbox's network, an fd that stays the caller's. `failed` is called, in a thread,
        with what pasta said if it ends by itself. Raises HostError.
        """
        from builder.executor import ExecRequest

        self._tail = b""
        self._failed = failed
        own = ("--netns-only", "--runas", "0", "--netns", "/proc/self/fd/0")
        argv = (program(), *arguments(request), *own)
        path = os.environ.get("PATH", os.defpath)
        asked = ExecRequest(argv=argv, root="host", env=(("PATH", path),), stdin=namespace)
        self._running: Running = executor.start(asked, self._read)
        self._closed = False
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; return when it is dead."""
        self._closed = True
        self._running.kill(9)
        self._thread.join()

    def _read(self, _stream: Stream, data: bytes) -> None:
        self._tail = (self._tail + data)[-_TAIL:]

    def _wait(self) -> None:
        try:
            self._running.wait()
            said = self._tail.decode(errors="replace").strip().rpartition("\n")[2]
        except BuildError as error:
            said = error.message
        if not self._closed:
            self._failed(said or "pasta has ended")
