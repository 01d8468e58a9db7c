"""A reverse proxy before a registry that goes wrong as it is told: cuts, stalls, corrupts, redirects."""

from __future__ import annotations

import http.client
import http.server
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["cut", "short", "stall", "corrupt", "status", "redirect", "no-range", "drop", "longer"]


@dataclass
class Fault:
    """Happens to the next `times` requests whose path contains `path`; for others than GET, it may be
    "METHOD path", and `least` bytes is how large their bodies must be.

    cut: the connection ends after `at` bytes of the body. short: it ends there, in good order, and the
    headers said so. stall: nothing comes after `at` bytes. corrupt: the byte at `at` is another. status:
    `status` is the answer, with `headers`. redirect: to `location` plus the path. no-range: Range is ignored.
    drop: no answer at all. longer: one byte too many.
    """

    kind: Kind
    path: str = ""
    times: int = 1
    at: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    location: str = ""
    body: bytes = b""
    least: int = 0


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]


class FaultyProxy:
    """Passes requests to the registry at `port`, with `faults`. `seen` lists every request."""

    def __init__(self, port: int, *faults: Fault) -> None:
        self.port = port
        self.faults = list(faults)
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def address(self) -> str:
        return f"localhost:{self._server.server_address[1]}"

    def paths(self, part: str) -> list[str]:
        return [seen.path for seen in self.seen if part in seen.path]

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next_fault(self, path: str, size: int = 0) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.path in path and fault.times > 0 and size >= fault.least:
                    fault.times -= 1
                    return fault
        return None


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: FaultyProxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.owner.seen.append(Seen("GET", self.path, dict(self.headers.items())))
        fault = self.owner.next_fault(self.path)
        if fault is not None and fault.kind in _WITHOUT_ORIGIN:
            _WITHOUT_ORIGIN[fault.kind](self, fault)
            return
        headers = {
            key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")
        }
        if fault is not None and fault.kind == "no-range":
            headers.pop("Range", None)
        connection = http.client.HTTPConnection("127.0.0.1", self.owner.port, timeout=10)
        connection.request("GET", self.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        self._pass_on(answer, body, fault)

    def do_HEAD(self) -> None:
        self._write()

    def do_POST(self) -> None:
        self._write()

    def do_PUT(self) -> None:
        self._write()

    def do_PATCH(self) -> None:
        self._write()

    def do_DELETE(self) -> None:
        self._write()

    def _write(self) -> None:
        """Pass on a request with a body: of one that is to be cut, the first `at` bytes."""
        self.owner.seen.append(Seen(self.command, self.path, dict(self.headers.items())))
        size = int(self.headers.get("Content-Length") or 0)
        fault = self.owner.next_fault(f"{self.command} {self.path}", size)
        if fault is not None and fault.kind in _WITHOUT_ORIGIN:
            self.rfile.read(size)
            _WITHOUT_ORIGIN[fault.kind](self, fault)
            return
        cut = fault is not None and fault.kind == "cut"
        body = self.rfile.read(min(size, fault.at) if cut and fault is not None else size)
        headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
        headers["Content-Length"] = str(len(body))
        if cut:
            headers.pop("Content-Range", None)
        connection = http.client.HTTPConnection("127.0.0.1", self.owner.port, timeout=10)
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        found = answer.read()
        connection.close()
        if cut:
            self._reset()
            return
        self.send_response_only(answer.status)
        for key, value in answer.getheaders():
            if key.lower() != "connection" and (key.lower() != "content-length" or self.command == "HEAD"):
                self.send_header(key, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found)

    def _pass_on(self, answer: http.client.HTTPResponse, body: bytes, fault: Fault | None) -> None:
        kind = None if fault is None else fault.kind
        at = 0 if fault is None else min(fault.at, len(body))
        if kind == "corrupt":
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        elif kind == "short":
            body = body[:at]
        elif kind == "longer":
            body += b"!"
        self.send_response_only(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in ("content-length", "connection", "transfer-encoding"):
                for host in ("localhost", "127.0.0.1"):
                    value = value.replace(f"{host}:{self.owner.port}", self.owner.address)
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:at] if kind in ("cut", "stall") else body)
        self.wfile.flush()
        if kind == "stall":
            self.owner.closing.wait(30)
        if kind in ("cut", "stall"):
            self.close_connection = True

    def _status(self, fault: Fault) -> None:
        self.send_response_only(fault.status)
        for key, value in fault.headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(fault.body)))
        self.end_headers()
        self.wfile.write(fault.body)

    def _redirect(self, fault: Fault) -> None:
        self.send_response_only(307)
        self.send_header("Location", fault.location + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _drop(self, _: Fault) -> None:
        self._reset()

    def _reset(self) -> None:
        """Close the connection with a RST, as a crash does (socket(7), SO_LINGER)."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(
            OSError, ValueError
        ):  # the client went away, or the fault closed the connection under us
            super().handle()


_WITHOUT_ORIGIN: dict[str, Callable[[_Handler, Fault], None]] = {
    "status": _Handler._status,
    "redirect": _Handler._redirect,
    "drop": _Handler._drop,
}
