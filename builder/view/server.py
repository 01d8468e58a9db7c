"""Shows one page on this machine's loopback interface, and nothing else to nobody else.

The address has a secret in it, so that other users of this machine cannot read the page; and the Host header
must name this address, so that no web site can have its name mean 127.0.0.1 and read the page through a
visitor's browser (DNS rebinding).
"""

from __future__ import annotations

import secrets
from hmac import compare_digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


class PageServer(ThreadingHTTPServer):
    """Serves `page` at `address`, until `shutdown`."""

    daemon_threads = True

    def __init__(self, page: bytes, port: int = 0) -> None:
        """Listen on `port` of 127.0.0.1, 0 for any that is free. Raises OSError."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.page = page
        self.path = f"/{secrets.token_urlsafe(16)}/"

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_port}{self.path}"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    server_version = "pybuild"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        self._answer(self.server.page)

    def do_HEAD(self) -> None:
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        port = self.server.server_port
        if self.headers.get_all("Host") not in ([f"127.0.0.1:{port}"], [f"localhost:{port}"]):
            self.send_error(421, explain="the Host header names another server")
        elif not compare_digest(self.path.encode(), self.server.path.encode()):
            self.send_error(404)
        else:
            self.send_response(200)
            for name, value in _HEADERS:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(self.server.page)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
