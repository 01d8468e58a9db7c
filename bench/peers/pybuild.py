"""pybuild: the installed one beside the interpreter, else this checkout's."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field

from bench.command import Command
from bench.peers.protocol import Build, Compression, do
from bench.samples import Kind

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass(slots=True)
class Pybuild:
    """See Peer."""

    name: str = "pybuild"
    kind: Kind = "ours"
    _environment: dict[str, str] = field(default_factory=dict)
    loaded: dict[str, str] = field(default_factory=dict)

    def version(self) -> str:
        own = do(*self._program(), "version", environment=self._where()).splitlines()[0]
        return f"{own} ({_commit()}), Python {sys.version.split()[0]}"

    def set_up(self, directory: str) -> None:
        os.mkdir(directory)
        self._environment = {**self._where(), "PYBUILD_ROOT": os.path.join(directory, "store")}

    def load(self, archive: str, name: str) -> None:
        image = do(*self._program(), "load", "--quiet", archive, environment=self._environment)
        do(*self._program(), "tag", image, name, environment=self._environment)
        self.loaded[name] = archive

    def forget(self) -> None:
        shutil.rmtree(self._environment["PYBUILD_ROOT"], ignore_errors=True)
        for name, archive in self.loaded.items():
            self.load(archive, name)

    def daemons(self) -> list[int]:
        return []

    def build(self, build: Build) -> list[Command]:
        return [self._command("build", "--progress", "plain", *build.words())]

    def build_archive(self, build: Build, path: str) -> list[Command]:
        return [
            self._command(
                "build",
                "--progress",
                "plain",
                "--output",
                f"type=oci,dest={path},compression=gzip",
                *build.words(),
            )
        ]

    def archive(self, tag: str, path: str, compression: Compression) -> list[Command]:
        return [
            self._command("save", "--quiet", "--format", "oci", "--compression", compression, "-o", path, tag)
        ]

    def push(self, tag: str, reference: str) -> list[Command]:
        return [self._command("push", "--quiet", tag, reference)]

    def pull(self, reference: str) -> list[Command]:
        return [self._command("pull", "--quiet", reference)]

    def tear_down(self) -> None:
        """Nothing of a build outlives it."""

    def _program(self) -> list[str]:
        script = os.path.join(os.path.dirname(sys.executable), "pybuild")
        return [script] if os.path.exists(script) else [sys.executable, "-m", "builder.main"]

    def _where(self) -> dict[str, str]:
        return {} if len(self._program()) == 1 else {"PYTHONPATH": REPOSITORY}

    def _command(self, *words: str) -> Command:
        return Command([*self._program(), *words], self._environment)


def _commit() -> str:
    """Return the last commit that changed the program."""
    rooms = [os.path.join(REPOSITORY, room) for room in ("builder", "cache", "grammar")]
    if shutil.which("git") is None or not os.path.exists(os.path.join(REPOSITORY, ".git")):
        return "no commit"
    git = ("git", "-c", "safe.directory=*", "-C", REPOSITORY)
    commit = do(*git, "log", "-1", "--format=commit %h", "--", *rooms, environment={})
    changed = do(*git, "status", "--porcelain", "--", *rooms, environment={})
    return f"{commit}, and changes" if changed else commit
