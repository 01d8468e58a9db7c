"""A reverse proxy that counts what goes to and from a registry, and strikes when it has counted enough."""

from __future__ import annotations

import http.client
import http.server
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_PIECE = 1 << 16
_UPLOAD = re.compile(r"/blobs/uploads/([0-9a-f-]{36})")
_BLOB = re.compile(r"/blobs/(sha256:[0-9a-f]{64})$")
_COMPLETING = re.compile(r"[?&]digest=(sha256(?::|%3A)[0-9a-f]{64})")


@dataclass(slots=True)
class Exchange:
    """A request and its answer: `sent` and `received` count the bytes of their bodies, from the client's
    side. `status` is 0 while there is no answer."""

    method: str
    path: str
    sent: int = 0
    received: int = 0
    status: int = 0


class CountingProxy:
    """Passes requests to the registry at `port`. `exchanges` lists them.

    An event is a request that has come in, an answer that is about to go out, or a piece of a body (64 KiB)
    that is about to be passed on: the same work is the same number of events, though not in the same order
    where several requests are under way. With `strike_at(number, action)`, `action` is called before the
    event `number` goes on; then all connections break, and new ones are refused until `reopen`.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.exchanges: list[Exchange] = []
        self.events = 0
        self.struck = threading.Event()
        self._lock = threading.Lock()
        self._action: tuple[int, Callable[[], None]] | None = None
        self._down = False
        # Bound and never listening: nobody else gets the port while no connection is taken.
        self._place = _bound(0)
        self._own_port: int = self._place.getsockname()[1]
        self._listen()

    @property
    def address(self) -> str:
        return f"localhost:{self._own_port}"

    def __enter__(self) -> CountingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._shut()
        self._place.close()

    def strike_at(self, number: int, action: Callable[[], None]) -> None:
        """Count from the beginning, and call `action` before the event `number`, the first being 1."""
        with self._lock:
            self.exchanges = []
            self.events = 0
            self._action = (number, action)
            self.struck.clear()

    def resume(self) -> None:
        """Take connections again after a strike, and go on counting; there is no second one."""
        with self._lock:
            self._action = None
            down, self._down = self._down, False
        if down:
            self._listen()

    def reopen(self) -> None:
        """Take connections again; count from the beginning."""
        with self._lock:
            self.exchanges = []
            self.events = 0
        self.resume()

    @property
    def down(self) -> bool:
        return self._down

    @property
    def requests(self) -> int:
        return len(self.exchanges)

    @property
    def sent(self) -> int:
        """Bytes of bodies that the client has sent."""
        return sum(each.sent for each in self.exchanges)

    @property
    def received(self) -> int:
        """Bytes of bodies that the client was sent."""
        return sum(each.received for each in self.exchanges)

    def uploaded(self) -> list[tuple[str, int]]:
        """Return (digest, bytes) of each upload that was completed, in the order in which they were."""
        sizes: dict[str, int] = {}
        found = []
        for each in self.exchanges:
            upload, completing = _UPLOAD.search(each.path), _COMPLETING.search(each.path)
            if upload is not None:
                sizes[upload[1]] = sizes.get(upload[1], 0) + each.sent
                if completing is not None and each.method == "PUT":
                    found.append((completing[1].replace("%3A", ":"), sizes[upload[1]]))
        return found

    def downloaded(self) -> list[tuple[str, int]]:
        """Return (digest, bytes) of each blob that was asked for and sent, in that order."""
        return [
            (blob[1], each.received)
            for each in self.exchanges
            if each.method == "GET" and each.received and (blob := _BLOB.search(each.path))
        ]

    def note(self, method: str, path: str) -> Exchange:
        """Note that a request has come in. Raises ConnectionAbortedError where it is not to go on."""
        exchange = Exchange(method, path)
        with self._lock:
            self.exchanges.append(exchange)
        self.step()
        return exchange

    def step(self) -> None:
        """Count an event. Raises ConnectionAbortedError where it is not to happen."""
        with self._lock:
            if not self._down:
                self.events += 1
                if self._action is None or self.events < self._action[0]:
                    return
                self._down = True
                self._action[1]()
                self._shut()
                self.struck.set()
        raise ConnectionAbortedError

    def _listen(self) -> None:
        self._listener = _bound(self._own_port)
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _shut(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(2)
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        handler = type("Handler", (_Handler,), {"owner": self})
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            threading.Thread(target=handler, args=(connection, address, self), daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: CountingProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError, http.client.HTTPException):
            self._reset()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()
        self.request.close()

    def _pass(self) -> None:
        exchange = self.owner.note(self.command, self.path)
        connection = http.client.HTTPConnection("127.0.0.1", self.owner.port, timeout=60)
        try:
            chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for key, value in self.headers.items():
                if key.lower() not in ("connection", "expect"):
                    connection.putheader(key, value)
            connection.endheaders()
            for piece in self._chunks() if chunked else self._body():
                self.owner.step()
                exchange.sent += len(piece)
                connection.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                connection.send(b"0\r\n\r\n")
            self._answer(connection.getresponse(), exchange)
        finally:
            connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815 - http.server's names

    def _answer(self, answer: http.client.HTTPResponse, exchange: Exchange) -> None:
        self.owner.step()
        exchange.status = answer.status
        chunked = answer.getheader("Content-Length") is None and self.command != "HEAD"
        chunked = chunked and answer.status not in (204, 304)
        self.send_response_only(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in ("connection", "transfer-encoding"):
                self.send_header(key, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := answer.read(_PIECE):
            self.owner.step()
            exchange.received += len(piece)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _body(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(_PIECE, left))
            if not piece:
                raise ConnectionAbortedError
            left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(100).partition(b";")[0], 16):
            piece = self.rfile.read(size)
            self.rfile.readline(100)
            if len(piece) < size:
                raise ConnectionAbortedError
            yield piece
        while self.rfile.readline(1000).strip():
            pass  # trailers

    def _reset(self) -> None:
        """Close with a RST, as the kernel does for a process that was killed with data unread."""
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *_: Any) -> None:
        pass


def _bound(port: int) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(("127.0.0.1", port))
    return found
