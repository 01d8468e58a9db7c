"""The HTTP side.

GET  /health    {"status": "up", "links": 2}
POST /          the request's body is an address; 201 and {"slug": "...", "address": "..."}
GET  /SLUG      302 to the address, 404 if there is none
"""

from __future__ import annotations

from urllib.parse import urlsplit

from bottle import Bottle, HTTPResponse, abort, request

from links.store import Links

MAX_ADDRESS = 2048


def application(links: Links) -> Bottle:
    """Return the WSGI application that serves `links`."""
    app = Bottle()

    @app.get("/health")
    def health() -> dict[str, object]:
        return {"status": "up", "links": links.count()}

    @app.post("/")
    def add() -> HTTPResponse:
        address = request.body.read(MAX_ADDRESS + 1).decode("utf-8", "replace").strip()
        if len(address) > MAX_ADDRESS or urlsplit(address).scheme not in ("http", "https"):
            abort(400, "the body must be an http or https address")
        return HTTPResponse({"slug": links.add(address), "address": address}, 201)

    @app.get("/<slug>")
    def follow(slug: str) -> HTTPResponse:
        address = links.use(slug)
        if address is None:
            abort(404, "no such link")
        return HTTPResponse(status=302, headers={"Location": address})

    return app
