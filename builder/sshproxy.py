"""A socket for a step, and an ssh agent behind it, of which the step may ask two things: which keys there
are, and to sign with them. All else is answered with a failure.

As with BuildKit, which refuses to add, remove, lock and extend (session/sshforward/sshprovider).
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import TYPE_CHECKING

from builder.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST = 256 << 10  # AGENT_MAX_LEN of OpenSSH, in bytes
_FAILURE = b"\0\0\0\1\5"
_ALLOWED = (11, 13)
"""SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENTC_SIGN_REQUEST (draft-ietf-sshm-ssh-agent, 6.1)."""

_MOST_CLIENTS = 64
_PATIENCE = 10.0  # seconds until an agent has to accept


class Proxy:
    """A socket that steps connect to; each connection is one to the agent at `agent`."""

    def __init__(self, agent: str, directory: str) -> None:
        self.path = directory + "/ssh-agent"
        self._agent = agent
        self._listener = _listen(self.path)
        self._open: set[socket.socket] = set()
        self._threads: list[Thread] = []
        self._lock = Lock()
        self._closed = False
        self._accepting = Thread(target=self._accept, name="ssh-proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            ends = (self._listener, *self._open)
            for end in ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        with suppress(OSError):
            os.unlink(self.path)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # shut down
                return
            with self._lock:
                if self._closed or len(self._open) >= 2 * _MOST_CLIENTS:
                    client.close()
                    continue
                self._open.add(client)
                thread = Thread(target=self._serve, args=(client,), name="ssh-client", daemon=True)
                self._threads = [each for each in self._threads if each.is_alive()]
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        agent = socket.socket(socket.AF_UNIX)
        try:
            with self._lock:
                self._open.add(agent)
            agent.settimeout(_PATIENCE)
            _connect(agent, self._agent)
            agent.settimeout(None)
            while not self._closed and (message := _receive(client)) is not None:
                if message[4] in _ALLOWED:
                    agent.sendall(message)
                    answer = _receive(agent)
                    if answer is None:
                        return
                else:
                    answer = _FAILURE
                client.sendall(answer)
        except OSError:
            return  # one of the two has gone
        finally:
            with self._lock:
                self._open -= {client, agent}
                client.close()
                agent.close()


def _receive(end: socket.socket) -> bytes | None:
    """Return one message with its length before it; None at the end, or if it is none."""
    head = _exactly(end, 4)
    length = int.from_bytes(head or b"", "big")
    if head is None or not 1 <= length <= _LARGEST:
        return None
    body = _exactly(end, length)
    return None if body is None else head + body


def _exactly(end: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        piece = end.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return data


def _listen(path: str) -> socket.socket:
    """Return a listening socket at `path`, which may be longer than the 108 bytes that an address has."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as address:
            listener.bind(address)
        listener.listen(16)
    except BaseException:
        listener.close()
        raise
    return listener


def check(agent: str) -> None:
    """Raise HostError unless somebody listens."""
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(_PATIENCE)
        try:
            _connect(end, agent)
        except OSError as error:
            raise HostError(
                f"--ssh: no agent answers at {agent}: {error.strerror or error}", code="ssh/agent"
            ) from None


def _connect(end: socket.socket, path: str) -> None:
    """Connect to the socket at `path`, however long that is. Raises OSError."""
    with _short(path) as address:
        end.connect(address)


@contextmanager
def _short(path: str) -> Iterator[str]:
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
