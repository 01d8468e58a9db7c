"""The real server in a process of its own, and the other end of its protocol, JSON-RPC."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
from typing import Any, BinaryIO

from tests.command_fixtures.pybuild import ARGV, ROOT

Json = Any
SECONDS = 60


class Refusal(Exception):
    """The server answered with an error."""


class Client:
    """Speaks to a server over two files. Messages that nobody waits for are kept in `notes`."""

    def __init__(self, reads: BinaryIO, writes: BinaryIO) -> None:
        self._reads = reads
        self._writes = writes
        self._count = 0
        self.notes: list[Json] = []

    def send(self, message: Json) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.send_bytes(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def send_bytes(self, data: bytes) -> None:
        self._writes.write(data)
        self._writes.flush()

    def receive(self) -> Json:
        """Return the next message. Fails if none comes, or something else than one."""
        length = 0
        while line := self._line():
            name, _, value = line.partition(b":")
            assert name.lower() in (b"content-length", b"content-type"), line
            if name.lower() == b"content-length":
                length = int(value)
        return json.loads(self._reads.read(length))

    def _line(self) -> bytes:
        if not self._reads.peek(1):  # type: ignore[attr-defined]
            raise EOFError("the server has gone")
        line = self._reads.readline()
        assert line.endswith(b"\r\n"), line
        return line[:-2]

    def request(self, method: str, params: Json) -> Json:
        """Return the answer to a request. Raises Refusal."""
        self._count += 1
        self.send({"id": self._count, "method": method, "params": params})
        while True:
            message = self.receive()
            if message.get("id") == self._count and "method" not in message:
                if "error" in message:
                    raise Refusal(message["error"]["message"], message["error"]["code"])
                return message["result"]
            self.notes.append(message)

    def notify(self, method: str, params: Json) -> None:
        self.send({"method": method, "params": params})

    def note(self, method: str) -> Json:
        """Return the parameters of the next notification `method`."""
        while True:
            for at, message in enumerate(self.notes):
                if message.get("method") == method:
                    return self.notes.pop(at)["params"]
            self.notes.append(self.receive())

    def initialize(self, **general: Json) -> Json:
        capabilities = {"general": general} if general else {}
        answer = self.request(
            "initialize", {"processId": os.getpid(), "rootUri": None, "capabilities": capabilities}
        )
        self.notify("initialized", {})
        return answer

    def open(self, uri: str, text: str) -> list[Json]:
        """Open a document, and return its diagnostics."""
        self.notify(
            "textDocument/didOpen",
            {"textDocument": {"uri": uri, "languageId": "dockerfile", "version": 1, "text": text}},
        )
        found = self.note("textDocument/publishDiagnostics")
        assert found["uri"] == uri
        diagnostics: list[Json] = found["diagnostics"]
        return diagnostics

    def ask(self, what: str, uri: str, line: int = 0, character: int = 0, **more: Json) -> Json:
        """Ask for something at a place in a document."""
        params = {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}, **more}
        return self.request(f"textDocument/{what}", params)


class Server:
    """A server process. Use it with `with`: it must not outlive its test."""

    def __init__(self, directory: str, *argv: str, **environment: str) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        path = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            (*ARGV, "lsp", *argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory,
            env={**kept, "PYTHONPATH": path, "PYBUILD_ROOT": f"{directory}/no-store", **environment},
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.client = Client(self.process.stdout, self.process.stdin)  # type: ignore[arg-type]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def end(self) -> tuple[int, bytes, bytes]:
        """End it as an editor does; return its exit code, and what else it wrote."""
        self.client.request("shutdown", None)
        self.client.notify("exit", None)
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err

    def connect(self, port: int) -> Client:
        """Return a client that speaks over TCP, once the server says that it waits."""
        assert self.process.stderr is not None
        assert select.select([self.process.stderr], [], [], SECONDS)[0]
        assert self.process.stderr.readline() == b"waiting for an editor on 127.0.0.1:%d\n" % port
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
                break
            except ConnectionRefusedError:
                assert self.process.poll() is None
        return Client(connection.makefile("rb"), connection.makefile("wb"))
