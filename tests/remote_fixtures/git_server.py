"""Git repositories, served over smart HTTP by git's own backend, or over dumb HTTP as plain files."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "Somebody",
    "GIT_AUTHOR_EMAIL": "somebody@example.com",
    "GIT_COMMITTER_NAME": "Somebody",
    "GIT_COMMITTER_EMAIL": "somebody@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}
FIRST = 1_500_000_000
"""The time of a repository's first commit, in seconds since 1970; each later one is a day after."""


class Repository:
    """A repository with a work tree at `path`, whose branch is `main`."""

    def __init__(self, path: Path, *, form: str = "sha1") -> None:
        self.path = path
        self._time = FIRST
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main", f"--object-format={form}")

    def git(self, *arguments: str, stdin: str | None = None) -> str:
        """Run git in it, and return what it printed."""
        when = f"{self._time} +0000"
        env = {"PATH": os.environ["PATH"], **IDENTITY, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        command = ["git", "-c", "protocol.file.allow=always", "-C", str(self.path), *arguments]
        done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def commit(self, files: dict[str, str | bytes] | None = None, message: str = "a commit") -> str:
        """Write files, commit all there is, and return the commit's id."""
        for name, content in (files or {}).items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        self._time += 86400
        return self.git("rev-parse", "HEAD")

    def tree(self, entries: str) -> str:
        """Commit a tree that is written entry by entry (`git mktree`), checks of git aside; return the
        commit.
        """
        tree = self.git("mktree", "--missing", stdin=entries)
        commit = self.git("commit-tree", tree, "-m", "a tree made by hand")
        self.git("update-ref", "refs/heads/main", commit)
        return commit

    def blob(self, content: str) -> str:
        """Return the id of a new blob."""
        return self.git("hash-object", "-w", "--stdin", stdin=content)


class GitServer:
    """Serves the repositories below `root`. `requests` lists what came in; `password` is wanted if it is
    set, as `user:password`.
    """

    def __init__(self, root: Path, *, dumb: bool = False) -> None:
        self.root = root
        self.dumb = dumb
        self.requests: list[str] = []
        self.password = ""
        self.old = False
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

    def repository(self, name: str, *, form: str = "sha1") -> Repository:
        """Make a repository, at `url`/NAME.git."""
        return Repository(self.root / f"{name}.git", form=form)

    def __enter__(self) -> GitServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: GitServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        import base64

        owner = self.owner
        owner.requests.append(f"{self.command} {self.path}")
        body = self._body()
        wanted = "Basic " + base64.b64encode(owner.password.encode()).decode()
        if owner.password and self.headers.get("Authorization") != wanted:
            self._send(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
        elif owner.dumb:
            place = owner.root / self.path.partition("?")[0].lstrip("/").replace(".git/", ".git/.git/", 1)
            data = place.read_bytes() if place.is_file() else None
            self._send(404 if data is None else 200, [("Content-Type", "text/plain")], data or b"")
        else:
            self._backend(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _backend(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        settings = {"safe.directory": "*"}
        if self.owner.old:
            settings |= {"uploadpack.allowAnySHA1InWant": "false"}
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.owner.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_CONFIG_COUNT": str(len(settings)),
        }
        for index, (key, value) in enumerate(settings.items()):
            env |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
        if not self.owner.old:
            # An old server speaks protocol version 0 alone.
            env["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        status = 200
        headers: list[tuple[str, str]] = []
        for line in head.decode().split("\r\n"):
            name, _, value = line.partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            elif name:
                headers.append((name, value))
        self._send(status, headers, rest)

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
