"""The builders that are compared, each with a store of its own, used as its own users would."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Protocol

from workloads import BASE

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Peer(Protocol):
    """A builder."""

    @property
    def name(self) -> str:
        """What the command line and the report call it."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables that its commands need, beside those of this process."""

    def version(self) -> str | None:
        """What it says of itself, in one line; None if it is not on this machine."""

    def set_up(self, directory: str, base: str) -> None:
        """Make a store in the new directory `directory`, and put the OCI archive `base` into it as BASE."""

    def build(self, recipe: str, tag: str, arguments: dict[str, str]) -> list[str]:
        """Return the command that builds `recipe`, in cached layers, its directory being the context."""

    def tear_down(self) -> None:
        """Leave nothing behind that would keep the store's directory from being removed."""


def _first_line(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[0]


def _with_arguments(command: list[str], arguments: dict[str, str], recipe: str) -> list[str]:
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    return [*command, "-f", recipe, os.path.dirname(recipe)]


@dataclass(slots=True)
class Pybuild:
    """This checkout's pybuild, or the installed one if it stands beside the interpreter."""

    name: str = "pybuild"
    environment: dict[str, str] = field(default_factory=dict)

    def command(self) -> list[str]:
        script = os.path.join(os.path.dirname(sys.executable), "pybuild")
        return [script] if os.path.exists(script) else [sys.executable, "-m", "builder.main"]

    def version(self) -> str | None:
        environment = {**os.environ, "PYTHONPATH": REPOSITORY}
        done = subprocess.run(
            [*self.command(), "--version"], check=True, capture_output=True, text=True, env=environment
        )
        return f"{done.stdout.strip()} on Python {sys.version.split()[0]}"

    def set_up(self, directory: str, base: str) -> None:
        self.environment = {"PYBUILD_ROOT": directory, "PYTHONPATH": REPOSITORY}
        environment = {**os.environ, **self.environment}
        load = [*self.command(), "load", "--quiet", base]
        loaded = subprocess.run(load, check=True, env=environment, stdout=subprocess.PIPE, text=True)
        subprocess.run([*self.command(), "tag", loaded.stdout.strip(), BASE], check=True, env=environment)

    def tear_down(self) -> None:
        """Nothing of a build outlives it."""

    def build(self, recipe: str, tag: str, arguments: dict[str, str]) -> list[str]:
        command = [*self.command(), "build", "--progress", "plain", "-t", tag]
        return _with_arguments(command, arguments, recipe)


@dataclass(slots=True)
class Buildah:
    """Debian's buildah with `--layers`, that is, with its cache, in one of its kinds of isolation."""

    isolation: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"buildah-{self.isolation}"

    def version(self) -> str | None:
        line = _first_line("buildah", "--version")
        return None if line is None else f"{line.split(' (')[0]}, --isolation {self.isolation}"

    def set_up(self, directory: str, base: str) -> None:
        os.mkdir(directory)
        containers, storage = (
            os.path.join(directory, "containers.conf"),
            os.path.join(directory, "storage.conf"),
        )
        # By default it raises the limits beyond those of this process: CAP_SYS_RESOURCE may be missing.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with open(containers, "w", encoding="utf-8") as file:
            file.write(
                f'[containers]\ndefault_ulimits = ["nofile={files}:{files}"]\n[engine]\nruntime = "runc"\n'
            )
        with open(storage, "w", encoding="utf-8") as file:
            file.write('[storage]\ndriver = "overlay"\n')
            file.write(f'graphroot = "{directory}/graph"\nrunroot = "{directory}/run"\n')
        self.environment = {"CONTAINERS_CONF": containers, "CONTAINERS_STORAGE_CONF": storage}
        subprocess.run(
            [
                "skopeo",
                "copy",
                "--quiet",
                f"oci-archive:{base}",
                f"containers-storage:localhost/{BASE}:latest",
            ],
            check=True,
            env={**os.environ, **self.environment},
        )

    def tear_down(self) -> None:
        # A failed build leaves its working container mounted.
        environment = {**os.environ, **self.environment}
        subprocess.run(["buildah", "rm", "--all"], check=True, env=environment, stdout=subprocess.DEVNULL)

    def build(self, recipe: str, tag: str, arguments: dict[str, str]) -> list[str]:
        command = [
            "buildah",
            "build",
            "--layers",
            "--network",
            "host",
            "--isolation",
            self.isolation,
            "--pull-never",
        ]
        return _with_arguments([*command, "-t", tag], arguments, recipe)


PEERS: tuple[Peer, ...] = (Pybuild(), Buildah("oci"), Buildah("chroot"))
