"""Debian's docker-registry, one process for each Registry, on a loopback port of its own."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from typing import Any

PASSWORD = "pa:ss wörd"
USER = "ada"
# bcrypt of PASSWORD, cost 5: Debian's htpasswd belongs to apache2-utils, which nothing else here needs
_HTPASSWD = "ada:$2y$05$GHyyLqTw02y1dQBuPmXHr.LA0PZg1AGQXk/JsmuVfpaHiwxDSmJ4.\n"


@dataclass(frozen=True)
class Certificate:
    """A certificate authority, and a certificate of it for localhost and 127.0.0.1."""

    ca: str
    certificate: str
    key: str


def make_certificate(directory: str) -> Certificate:
    os.makedirs(directory, exist_ok=True)
    paths = {
        name: os.path.join(directory, name) for name in ("ca.pem", "ca.key", "srv.pem", "srv.key", "srv.csr")
    }
    new_key = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority = ["-keyout", paths["ca.key"], "-out", paths["ca.pem"]]
    _quiet([*new_key, "-x509", "-days", "2", "-subj", "/CN=test authority", *authority])
    _quiet([*new_key, "-subj", "/CN=localhost", "-keyout", paths["srv.key"], "-out", paths["srv.csr"]])
    extensions = os.path.join(directory, "extensions")
    with open(extensions, "w") as file:
        file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    sign = ["openssl", "x509", "-req", "-days", "2", "-CAcreateserial", "-extfile", extensions]
    issuer = ["-CA", paths["ca.pem"], "-CAkey", paths["ca.key"]]
    _quiet([*sign, *issuer, "-in", paths["srv.csr"], "-out", paths["srv.pem"]])
    return Certificate(paths["ca.pem"], paths["srv.pem"], paths["srv.key"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Registry:
    """A running docker-registry. `directory` holds its storage, its configuration and its log.

    `login`: it wants USER and PASSWORD. `tls`: it speaks TLS with that certificate. `token`: (realm,
    certificate file) of the token server that it trusts. `clients`: it wants a certificate by that authority.
    """

    def __init__(
        self,
        directory: str,
        *,
        login: bool = False,
        tls: Certificate | None = None,
        token: tuple[str, str] | None = None,
        clients: str | None = None,
    ) -> None:
        binary = shutil.which("docker-registry")
        assert binary is not None, "these tests need docker-registry: apt-get install docker-registry"
        os.makedirs(directory, exist_ok=True)
        self.port = free_port()
        self.tls = tls
        self.log = os.path.join(directory, "log")
        path = os.path.join(directory, "config.json")
        with open(path, "w") as file:  # every JSON document is YAML
            json.dump(_config(directory, self.port, login, tls, token, clients), file)
        open(self.log, "wb").close()
        self._command = [binary, "serve", path]
        self._clients = clients
        self.start()

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it (again)."""
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=os.path.dirname(self.log),
            )  # fmt: skip
        self._await(self._clients)

    def stop(self) -> None:
        """Kill it with SIGKILL. What it has stored stays."""
        self._process.kill()
        self._process.wait()

    def read_log(self) -> str:
        with open(self.log) as file:
            return file.read()

    def put_blob(self, repository: str, data: bytes) -> None:
        """Store a blob."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", f"/v2/{repository}/blobs/uploads/")
        answer = connection.getresponse()
        answer.read()
        place = answer.headers["Location"]
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        path = place[place.index("/v2/") :]
        connection.request(
            "PUT", f"{path}&digest={digest}", data, {"Content-Type": "application/octet-stream"}
        )
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
        connection.close()

    def put_manifest(self, repository: str, name: str, document: dict[str, Any]) -> None:
        """Store a manifest that no tool would write."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Content-Type": document["mediaType"]}
        connection.request("PUT", f"/v2/{repository}/manifests/{name}", json.dumps(document), headers)
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
        connection.close()

    def _await(self, clients: str | None) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.read_log()
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                    if self.tls is not None and clients is None:
                        context = ssl.create_default_context(cafile=self.tls.ca)
                        context.wrap_socket(sock, server_hostname="localhost").close()
                    return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise AssertionError("docker-registry does not answer:\n" + self.read_log())


def _config(
    directory: str,
    port: int,
    login: bool,
    tls: Certificate | None,
    token: tuple[str, str] | None,
    clients: str | None,
) -> dict[str, Any]:
    http_section: dict[str, Any] = {"addr": f"127.0.0.1:{port}", "secret": "of this test"}
    if tls is not None:
        http_section["tls"] = {"certificate": tls.certificate, "key": tls.key}
        if clients is not None:
            http_section["tls"]["clientcas"] = [clients]
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": os.path.join(directory, "storage")},
            "delete": {"enabled": True},
        },
        "http": http_section,
    }
    if login:
        path = os.path.join(directory, "htpasswd")
        with open(path, "w") as file:
            file.write(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "test", "path": path}}
    if token is not None:
        realm, bundle = token
        config["auth"] = {
            "token": {"realm": realm, "service": "test registry", "issuer": "test", "rootcertbundle": bundle}
        }
    return config


def _quiet(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
