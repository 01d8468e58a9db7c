"""What a workload stands on: a directory, the peers, and how large everything is to be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench import command
from bench.command import Command
from bench.goals import Goal
from bench.peers import OURS, Builder, Peer
from bench.peers.protocol import Build
from bench.rounds import Subject

BASE = "bench-base"
"""The name under which each peer holds the base image, see rootfs.py."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large the workloads are; `scale` 1 is what the goals are about, less is for a try."""

    scale: float = 1.0

    def __call__(self, full: int) -> int:
        """Return `full`, in whatever unit, scaled down; at least 1."""
        return max(1, round(full * self.scale))


@dataclass(slots=True)
class Ground:
    """`directory` is new and the workload's own; `cleanup` is called when it is over. `log`: for output."""

    directory: str
    peers: list[Peer]
    size: Size
    log: str
    cleanup: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def builders(self) -> list[Builder]:
        return [peer for peer in self.peers if isinstance(peer, Builder)]

    @property
    def ours(self) -> Builder:
        return next(peer for peer in self.builders if peer.name == OURS)

    def path(self, name: str) -> str:
        """Return the path of `name` in this workload's directory."""
        return os.path.join(self.directory, name)

    def write(self, name: str, text: str) -> str:
        """Write a file into this workload's directory, and return its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def run(self, commands: Sequence[Command]) -> None:
        """Run what is not measured. Raises CommandFailed."""
        for one in commands:
            command.run(one, self.log)


class Workload(Protocol):
    """Something to be measured, with each peer that can do it and with floors."""

    @property
    def name(self) -> str:
        """What the command line calls it."""

    @property
    def title(self) -> str:
        """What the report calls it."""

    @property
    def goals(self) -> Sequence[Goal]:
        """What is to be reached, besides goals.MEMORY."""

    def subjects(self, ground: Ground) -> list[Subject]:
        """Prepare `ground`, and return what is measured. Raises CommandFailed."""


def from_nothing(peer: Peer, commands: Callable[[int], Sequence[Command]], name: str = "") -> Subject:
    """Return a subject whose every run finds nothing but the base images in the store."""
    return Subject(name or peer.name, peer.kind, commands, lambda run: peer.forget(), peer.daemons)


def after(
    peer: Peer,
    first: Callable[[], None],
    commands: Callable[[int], Sequence[Command]],
    each: Callable[[int], None] | None = None,
) -> Subject:
    """Return a subject that does `first` once, and `each` before each run; both are not measured."""
    done: list[bool] = []

    def before(run: int) -> None:
        if not done:
            first()
            done.append(True)
        if each is not None:
            each(run)

    return Subject(peer.name, peer.kind, commands, before, peer.daemons)


def cold_builds(ground: Ground, build: Build) -> list[Subject]:
    """Return the building of `build` with empty stores, by all builders."""
    return [from_nothing(peer, lambda run, peer=peer: peer.build(build)) for peer in ground.builders]  # type: ignore[misc]


def cold_archives(ground: Ground, build: Build) -> list[Subject]:
    """Return the building of `build` with empty stores and its export as an OCI archive, by all builders."""

    def subject(peer: Builder) -> Subject:
        return from_nothing(peer, lambda run: peer.build_archive(build, fresh(ground, peer)))

    return [subject(peer) for peer in ground.builders]


def fresh(ground: Ground, peer: Peer) -> str:
    """Return the path of an archive that `peer` is to write; what is there is removed."""
    path = ground.path(f"{peer.name}.oci")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return path
