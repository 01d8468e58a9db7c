"""Debian's docker-registry on the loopback, for as long as a workload needs it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
from types import TracebackType

from bench.command import CommandFailed, last_lines, wait_until

_START_SECONDS = 30.0


class Registry:
    """Runs while it is entered, with its storage in the new directory `directory`."""

    def __init__(self, directory: str) -> None:
        if shutil.which("docker-registry") is None:
            raise CommandFailed("there is no docker-registry on this machine")
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._port = listening.getsockname()[1]

    @property
    def address(self) -> str:
        return f"localhost:{self._port}"

    def __enter__(self) -> Registry:
        os.mkdir(self._directory)
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def empty(self) -> None:
        """Start again with nothing."""
        self._stop()
        shutil.rmtree(os.path.join(self._directory, "data"), ignore_errors=True)
        self._start()

    def _start(self) -> None:
        configuration = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": os.path.join(self._directory, "data")}},
            "http": {"addr": f"127.0.0.1:{self._port}"},
        }
        path, log = (os.path.join(self._directory, name) for name in ("config.json", "log"))
        with open(path, "w", encoding="utf-8") as file:  # every JSON document is YAML
            json.dump(configuration, file)
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", path], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        if not wait_until(self._answers, _START_SECONDS):
            self._stop()
            raise CommandFailed(f"docker-registry does not answer:\n{last_lines(log)}")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
