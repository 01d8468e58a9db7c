"""A token server as distribution's docs/spec/auth/token.md has it: docker-registry verifies what it signs."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import threading
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.registry_fixtures.registry import PASSWORD, USER

REFRESH_TOKEN = "an identity token"


class TokenServer:
    """Gives pull tokens to anyone for repositories below `public/`, and all tokens to USER.

    `requests` lists (method, scope, "anonymous" | "basic" | "refresh") in order; `life` is how long tokens
    last, in s.
    """

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        self.key = os.path.join(directory, "token.key")
        self.certificate = os.path.join(directory, "token.pem")
        command = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-x509", "-subj", "/CN=tokens"]
        files = ["-keyout", self.key, "-out", self.certificate]
        subprocess.run([*command, *files], check=True, capture_output=True)
        self.requests: list[tuple[str, str, str]] = []
        self.life = 300
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def realm(self) -> str:
        return f"http://localhost:{self._server.server_address[1]}/token"

    def __enter__(self) -> TokenServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def token(self, user: str, service: str, scope: str) -> str:
        """A signed token (JWT, RS256) with the actions of `scope` that `user` may do."""
        with open(self.certificate) as file:
            der = "".join(file.read().splitlines()[1:-1])
        access = []
        for each in scope.split():
            kind, _, rest = each.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = [
                action for action in actions.split(",") if user or (action == "pull" and "public/" in name)
            ]
            access.append({"type": kind, "name": name, "actions": allowed})
        now = int(time.time())
        claims = {
            "iss": "test",
            "sub": user,
            "aud": service,
            "exp": now + self.life,
            "nbf": now - 60,
            "iat": now,
            "jti": os.urandom(8).hex(),
            "access": access,
        }
        header = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        signed = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key],
            input=signed.encode(),
            check=True,
            capture_output=True,
        ).stdout
        return f"{signed}.{_encode(signature)}"


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: TokenServer

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        given = self.headers.get("Authorization")
        user = USER if given == expected else ""
        self._answer("GET", query, user, "basic" if given else "anonymous", refused=bool(given and not user))

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        known = form.get("refresh_token") == [REFRESH_TOKEN] and form.get("grant_type") == ["refresh_token"]
        self._answer("POST", form, USER if known else "", "refresh", refused=not known)

    def _answer(
        self, method: str, parameters: dict[str, list[str]], user: str, how: str, *, refused: bool
    ) -> None:
        scope = " ".join(parameters.get("scope", []))
        self.owner.requests.append((method, scope, how))
        answer: dict[str, Any] = {"details": "who are you?"}
        if not refused:
            name = "access_token" if method == "POST" else "token"
            token = self.owner.token(user, parameters.get("service", [""])[0], scope)
            answer = {name: token, "expires_in": self.owner.life}
        body = json.dumps(answer).encode()
        self.send_response(401 if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
