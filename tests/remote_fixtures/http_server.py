"""A web server whose files do what they are told: ETags, redirects, refusals, bodies that break off."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Page:
    """A path of the server. The first answers are those of `statuses`, with `headers`; then comes `body`.

    `cut` is after how many bytes the connection ends, once; `short`: it does so without a word before, in
    good order. `ranges`: parts are given. `stubborn`: an ETag is sent, and 200 all the same.
    """

    body: bytes = b""
    etag: str = ""
    modified: str = ""
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    ranges: bool = True
    stubborn: bool = False
    user: str = ""


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]


class HttpServer:
    """Serves `pages`, by their paths. `seen` lists every request."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.seen: list[Seen] = []
        self.changes: list[Callable[[], None]] = []
        """Done one after the other, each after a request."""
        self.always_cut = 0
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, path: str, body: bytes = b"", **told: object) -> str:
        """Put a page at `path`; return its URL."""
        self.pages[path] = Page(body, **told)  # type: ignore[arg-type]
        return self.url + path

    def stop(self) -> None:
        """Be no longer there: connections are refused from now on."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> HttpServer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.stop()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: HttpServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.owner.seen.append(Seen("GET", self.path, dict(self.headers)))
        page = self.owner.pages.get(self.path)
        try:
            self._page(page)
        finally:
            if self.owner.changes:
                self.owner.changes.pop(0)()

    def _page(self, page: Page | None) -> None:
        if page is None:
            self._answer(404)
        elif page.user and self.headers.get("Authorization") != page.user:
            self._answer(401)
        elif page.statuses:
            self._answer(page.statuses.pop(0), page.headers)
        elif self._unchanged(page):
            self._answer(304, {"ETag": page.etag} if page.etag else {})
        else:
            self._send(page)

    def _unchanged(self, page: Page) -> bool:
        asked = self.headers.get("If-None-Match")
        if page.etag and not page.stubborn and asked is not None:
            return page.etag in asked
        return bool(page.modified) and self.headers.get("If-Modified-Since") == page.modified

    def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, page: Page) -> None:
        start = 0
        asked = self.headers.get("Range")
        if asked and page.ranges and self.headers.get("If-Range") in (page.etag, page.modified):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
        for name, value in (("ETag", page.etag), ("Last-Modified", page.modified)):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(page.body) - start))
        self.end_headers()
        cut, page.cut = page.cut, None
        cut = self.owner.always_cut or cut
        if cut is not None:
            self.wfile.write(page.body[start:cut])
            self.close_connection = True
            return
        self.wfile.write(page.body[start:])
