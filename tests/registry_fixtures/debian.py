"""A Debian repository of a few kilobytes on the loopback, signed with a key of its own."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from email.utils import formatdate

SUITE = "tiny"


class DebianRepository:
    """Serves the suite `tiny` with what `publish` has put there. `on_request` is called with each path."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.root = os.path.join(directory, "www")
        self.keyring = os.path.join(directory, "tiny-keyring.gpg")
        self.on_request: Callable[[str], None] = lambda path: None
        self._home = os.path.join(directory, "gnupg")
        os.makedirs(self._home, mode=0o700)
        os.makedirs(self.root)
        self._gpg("--quick-gen-key", "Tiny <tiny@example.com>", "ed25519", "sign", "never")
        self._gpg("--output", self.keyring, "--export")
        self._gpg("--armor", "--output", self.keyring.replace(".gpg", ".asc"), "--export")
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def mirror(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/debian"

    def __enter__(self) -> DebianRepository:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        subprocess.run(
            ["gpgconf", "--homedir", self._home, "--kill", "all"], check=False, capture_output=True
        )

    def publish(self, packages: Mapping[str, Mapping[str, bytes]], date: int) -> None:
        """Let the suite hold `packages` (files by path, by package), its Release file dated `date`."""
        index = b"".join(self._package(name, files) for name, files in sorted(packages.items()))
        binary = os.path.join(self.root, "debian/dists", SUITE, "main/binary-amd64")
        os.makedirs(binary, exist_ok=True)
        files = {"Packages": index, "Packages.gz": gzip.compress(index, mtime=0)}
        for name, data in files.items():
            with open(os.path.join(binary, name), "wb") as file:
                file.write(data)
        sums = "".join(
            f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/{name}\n"
            for name, data in files.items()
        )
        release = (
            f"Origin: Tiny\nSuite: {SUITE}\nCodename: {SUITE}\nDate: {formatdate(date, usegmt=True)}\n"
            f"Architectures: amd64\nComponents: main\nSHA256:\n{sums}"
        )
        path = self.release
        with open(path + ".unsigned", "w") as file:
            file.write(release)
        self._gpg("--yes", "--clearsign", "--output", path, path + ".unsigned")

    @property
    def release(self) -> str:
        """The path of the signed Release file."""
        return os.path.join(self.root, "debian/dists", SUITE, "InRelease")

    def _package(self, name: str, files: Mapping[str, bytes]) -> bytes:
        """Build a package, and return its paragraph for the index: of the same files, the same bytes."""
        tree = os.path.join(self.directory, "build", name)
        control = f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: Tiny\nDescription: tiny\n"
        for path, data in {**files, "DEBIAN/control": control.encode()}.items():
            full = os.path.join(tree, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as file:
                file.write(data)
        pool = os.path.join(self.root, "debian/pool")
        os.makedirs(pool, exist_ok=True)
        deb = os.path.join(pool, f"{name}.deb")
        _run(["dpkg-deb", "--build", "--root-owner-group", tree, deb], SOURCE_DATE_EPOCH="1500000000")
        with open(deb, "rb") as file:
            data = file.read()
        digest = hashlib.sha256(data).hexdigest()
        return f"{control}Filename: pool/{name}.deb\nSize: {len(data)}\nSHA256: {digest}\n\n".encode()

    def _gpg(self, *words: str) -> None:
        _run(
            [
                "gpg",
                "--homedir",
                self._home,
                "--batch",
                "--passphrase",
                "",
                "--pinentry-mode",
                "loopback",
                *words,
            ]
        )


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: DebianRepository

    def do_GET(self) -> None:
        self.owner.on_request(self.path)
        path = os.path.join(self.owner.root, self.path.partition("?")[0].lstrip("/"))
        try:
            with open(path, "rb") as file:
                body, status = file.read(), 200
        except OSError:
            body, status = b"", 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _run(command: list[str], **environ: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environ})
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
