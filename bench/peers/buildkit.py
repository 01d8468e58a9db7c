"""BuildKit as Debian has it: inside the Docker daemon of docker.io. The suite starts one of its own.

Its data, state, socket and containerd are private, and it touches neither iptables nor bridges, so that a
Docker daemon of the machine is left alone; builds use the host's network.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import cgroup
from bench.command import Command, CommandFailed, last_lines, wait_until
from bench.peers.protocol import Build, Compression, Unavailable, do
from bench.samples import Kind

_CONTAINERD = """\
version = 2
root = "{0}/containerd/root"
state = "{0}/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{0}/containerd.sock"
[debug]
  address = "{0}/containerd-debug.sock"
"""
_START_SECONDS, _END_SECONDS = 60.0, 30.0


@dataclass(slots=True)
class BuildKit:
    """See Peer. The daemon has no OCI archives to give: skopeo makes them of what it saves."""

    name: str = "BuildKit"
    kind: Kind = "peer"
    _directory: str = ""
    _environment: dict[str, str] = field(default_factory=dict)
    _daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)
    loaded: dict[str, str] = field(default_factory=dict)

    def version(self) -> str:
        for program in ("dockerd", "containerd", "runc"):
            if shutil.which(program) is None:
                raise Unavailable(f"there is no {program} on this machine")
        daemon = do("dockerd", "--version", environment={})
        return f"{daemon} (its BuildKit), client {do(_client(), '--version', environment={})}"

    def set_up(self, directory: str) -> None:
        self._directory = directory
        for part in ("", "client", "tmp"):
            os.mkdir(os.path.join(directory, part))
        # A context or login of the user's own client is not to be used.
        self._environment = {
            "DOCKER_HOST": self._socket,
            "DOCKER_BUILDKIT": "1",
            "DOCKER_CONFIG": os.path.join(directory, "client"),
            "TMPDIR": os.path.join(directory, "tmp"),
        }
        try:
            self._start_containerd()
            self._start_dockerd()
        except BaseException:
            self.tear_down()
            raise

    def load(self, archive: str, name: str) -> None:
        options = ["--quiet", "--dest-daemon-host", self._socket]
        target = f"docker-daemon:{name}:latest"
        do("skopeo", "copy", *options, f"oci-archive:{archive}", target, environment=self._environment)
        self.loaded[name] = archive

    def forget(self) -> None:
        images = set(do(_client(), "images", "--quiet", "--no-trunc", environment=self._environment).split())
        if images:
            do(_client(), "rmi", "--force", *images, environment=self._environment)
        do(_client(), "builder", "prune", "--all", "--force", environment=self._environment)
        for name, archive in self.loaded.items():
            self.load(archive, name)

    def daemons(self) -> list[int]:
        return [daemon.pid for daemon in self._daemons]

    def build(self, build: Build) -> list[Command]:
        return [self._command("build", "--progress", "plain", "--network", "host", *build.words())]

    def build_archive(self, build: Build, path: str) -> list[Command]:
        return [*self.build(build), *self.archive(build.tag, path, "gzip")]

    def archive(self, tag: str, path: str, compression: Compression) -> list[Command]:
        options = ["--quiet", "--src-daemon-host", self._socket, "--dest-compress-format", compression]
        words = ["skopeo", "copy", *options, f"docker-daemon:{tag}:latest", f"oci-archive:{path}"]
        return [Command(words, self._environment)]

    def push(self, tag: str, reference: str) -> list[Command]:
        return [self._command("tag", tag, reference), self._command("push", "--quiet", reference)]

    def pull(self, reference: str) -> list[Command]:
        return [self._command("pull", "--quiet", reference)]

    def tear_down(self) -> None:
        while self._daemons:
            _end(self._daemons.pop())
        cgroup.remove()

    @property
    def _socket(self) -> str:
        return f"unix://{self._directory}/docker.sock"

    def _command(self, *words: str) -> Command:
        return Command([_client(), *words], self._environment)

    def _start_containerd(self) -> None:
        path = os.path.join(self._directory, "containerd.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(_CONTAINERD.format(self._directory))
        socket = os.path.join(self._directory, "containerd.sock")
        self._start(["containerd", "--config", path])
        self._await("containerd", lambda: os.path.exists(socket))

    def _start_dockerd(self) -> None:
        path = os.path.join(self._directory, "daemon.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write("{}")
        directory = self._directory
        self._start(
            [
                "dockerd",
                *("--config-file", path),
                *("--data-root", f"{directory}/data"),
                *("--exec-root", f"{directory}/exec"),
                *("--pidfile", f"{directory}/docker.pid"),
                *("--containerd", f"{directory}/containerd.sock"),
                *("--cgroup-parent", f"{cgroup.DAEMONS}/containers"),
                *("--exec-opt", "native.cgroupdriver=cgroupfs"),
                *("--host", self._socket),
                "--iptables=false",
                "--bridge=none",
            ]
        )
        self._await("dockerd", self._answers)

    def _answers(self) -> bool:
        words = [_client(), "version"]
        environment = {**os.environ, **self._environment}
        return subprocess.run(words, env=environment, capture_output=True).returncode == 0

    def _start(self, words: list[str]) -> None:
        with open(self._log(words[0]), "wb") as log:
            daemon = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._daemons.append(daemon)
        cgroup.move_daemon(daemon.pid)

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        if not wait_until(ready, _START_SECONDS):
            raise CommandFailed(f"{name} does not answer:\n{last_lines(self._log(name))}")

    def _log(self, name: str) -> str:
        return os.path.join(self._directory, f"{name}.log")


def _client() -> str:
    """The client that came with the daemon: another one that comes first in PATH may need other plugins."""
    daemon = shutil.which("dockerd") or ""
    beside = os.path.join(os.path.dirname(os.path.dirname(daemon)), "bin", "docker")
    return beside if os.access(beside, os.X_OK) else "docker"


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
