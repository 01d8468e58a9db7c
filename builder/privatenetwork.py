"""A network of one's own with a way out: pasta(1), of the passt project, between a sandbox's network
namespace and the host's; where it is missing, slirp4netns(1), which publishes no ports. Neither takes a
privilege on the host, and no interface or rule is made there.

It runs in a sandbox itself, so that it dies with the launcher, whoever kills whom.
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
_MTU = "65520"


def find() -> str | None:
    """Return the path of the program that makes private networks, if there is any."""
    from shutil import which

    return which("pasta") or which("slirp4netns")


def command(request: ExecRequest, namespace: str) -> tuple[str, ...]:
    """Return the command that gives the network namespace of this path its way out, with the ports of the
    request. Raises HostError where there is no program that can.
    """
    path = find()
    hint = "apt-get install passt (or the package of that name of your distribution)"
    if path is None:
        raise HostError("a private network needs pasta, or slirp4netns", code="host/network", hint=hint)
    if os.path.basename(path) == "pasta":
        return (path, *arguments(request), "--netns-only", "--runas", "0", "--netns", namespace)
    if request.ports:
        raise HostError("ports are published by pasta, which is not here", code="host/network", hint=hint)
    options = ("--configure", f"--mtu={_MTU}", "--disable-host-loopback", f"--cidr={_slirps_network()}")
    return (os.path.realpath(path), *options, "--netns-type=path", namespace, "tap0")


def _slirps_network() -> str:
    """Return the network of which slirp4netns answers for a name server at the third address."""
    network, _, last = FORWARDED_RESOLVER.rpartition(".")
    assert last == "3"
    return f"{network}.0/24"


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
    """That program for one sandbox, from the start to `close`."""

    def __init__(
        self, executor: Executor, request: ExecRequest, namespace: int, failed: Callable[[str], None]
    ) -> None:
        """`namespace`: the sandbox's network, an fd that stays the caller's. `failed` is called, in a thread,
        with what it said if it ends by itself. Raises HostError.
        """
        from builder.executor import ExecRequest

        self._tail = b""
        self._failed = failed
        argv = command(request, "/proc/self/fd/0")
        self._name = os.path.basename(argv[0])
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
            self._failed(said or f"{self._name} has ended")
