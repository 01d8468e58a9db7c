"""A repository for apt of a few kilobytes, on the loopback."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from email.utils import formatdate


@dataclass(frozen=True)
class Deb:
    """A package. `control` are more lines of its control file, `files` the contents by path."""

    name: str
    version: str = "1"
    control: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    postinst: str = ""


class AptRepository:
    """Serves what `publish` has put there; `requests` are the paths that were asked for."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.root = os.path.join(directory, "www")
        self.requests: list[str] = []
        self._date = 1_600_000_000
        os.makedirs(self.root)
        handler = functools.partial(_Handler, self.requests, directory=self.root)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def base(self) -> str:
        """The beginning of a recipe whose apt knows this repository alone."""
        address = f"http://127.0.0.1:{self._server.server_address[1]}/"
        source = f"deb [trusted=yes] {address} ./"
        return (
            "FROM debian\nRUN rm -rf /etc/apt/sources.list.d/*\n"
            f"COPY <<sources.list /etc/apt/\n{source}\nsources.list\n"
        )

    def publish(self, *packages: Deb) -> None:
        """Let the repository hold `packages`, and nothing else."""
        shutil.rmtree(self.root)
        os.makedirs(self.root)
        index = "".join(self._build(package) for package in packages).encode()
        digest = hashlib.sha256(index).hexdigest()
        self._date += 60
        date = formatdate(self._date, usegmt=True)
        release = f"Date: {date}\nSHA256:\n {digest} {len(index)} Packages\n"
        for name, data in {"Packages": index, "Release": release.encode()}.items():
            path = os.path.join(self.root, name)
            with open(path, "wb") as file:
                file.write(data)
            os.utime(path, (self._date, self._date))  # what If-Modified-Since asks for

    def _build(self, package: Deb) -> str:
        """Build a package; return its paragraph for the index."""
        file = f"{package.name}_{package.version}_all.deb"
        tree = os.path.join(self._directory, file.removesuffix(".deb"))
        shutil.rmtree(tree, ignore_errors=True)
        control = "\n".join(
            [
                f"Package: {package.name}",
                f"Version: {package.version}",
                "Architecture: all",
                "Maintainer: Tiny <tiny@example.org>",
                "Description: tiny",
                *package.control,
                "",
            ]
        )
        contents = {**package.files, "DEBIAN/control": control}
        if package.postinst:
            contents["DEBIAN/postinst"] = "#!/bin/sh\nset -e\n" + package.postinst
        for path, text in contents.items():
            full = os.path.join(tree, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as out:
                out.write(text)
            os.chmod(full, 0o755 if text.startswith("#!") else 0o644)
        deb = os.path.join(self.root, file)
        command = ["dpkg-deb", "--build", "--root-owner-group", tree, deb]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1500000000"}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        with open(deb, "rb") as built:
            data = built.read()
        digest = hashlib.sha256(data).hexdigest()
        return f"{control}Filename: ./{file}\nSize: {len(data)}\nSHA256: {digest}\n\n"


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, requests: list[str], *args: object, **kwargs: object) -> None:
        self._requests = requests
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._requests.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass
