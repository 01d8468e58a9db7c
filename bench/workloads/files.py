"""Builds with many files and many bytes."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

from bench import floors
from bench.goals import Goal
from bench.peers.protocol import Build, Builder
from bench.rounds import Subject
from bench.workloads.ground import BASE, Ground, after, cold_archives, cold_builds

_FILES_A_DIRECTORY = 100


def tree(directory: str, files: int, size: int) -> None:
    """Make `directory` with `files` files of `size` bytes that no compression makes smaller, always the
    same.
    """
    source = random.Random(files)
    for number in range(files):
        below = os.path.join(directory, f"d{number // _FILES_A_DIRECTORY:05}")
        if number % _FILES_A_DIRECTORY == 0:
            os.makedirs(below)
        with open(os.path.join(below, f"f{number:07}"), "wb") as file:
            file.write(source.randbytes(size))


@dataclass(frozen=True, slots=True)
class SmallFiles:
    """A RUN that leaves many files with a few bytes each."""

    files: int = 50_000
    name: str = "small-files"
    goals: tuple[Goal, ...] = (Goal(0.5), Goal(0.25, ("buildah",)))

    @property
    def title(self) -> str:
        return f"RUN that makes {self.files:,} small files, build and archive"

    def subjects(self, ground: Ground) -> list[Subject]:
        directories = max(1, ground.size(self.files) // _FILES_A_DIRECTORY)
        script = (
            f"i=0; while [ $i -lt {directories} ]; do mkdir -p /made/$i; j=0;"
            f" while [ $j -lt {_FILES_A_DIRECTORY} ]; do echo $i $j > /made/$i/$j; j=$((j+1)); done;"
            " i=$((i+1)); done"
        )
        recipe = ground.write("context/Dockerfile", f"FROM {BASE}\nRUN {script}\n")
        tree(ground.path("tree"), directories * _FILES_A_DIRECTORY, len("100 50\n"))
        return [
            *cold_archives(ground, Build(recipe, f"bench-{self.name}")),
            floors.tar_and_sha256sum(ground, ground.path("tree")),
        ]


@dataclass(frozen=True, slots=True)
class BigFile:
    """A RUN that writes one large file."""

    megabytes: int = 2048
    name: str = "big-file"
    goals: tuple[Goal, ...] = (Goal(1.2, (floors.SHA256SUM,)),)

    @property
    def title(self) -> str:
        return f"RUN that writes {self.megabytes / 1024:g} GiB, build"

    def subjects(self, ground: Ground) -> list[Subject]:
        words = f"dd if=/dev/zero bs=1048576 count={ground.size(self.megabytes)}"
        recipe = ground.write("context/Dockerfile", f"FROM {BASE}\nRUN {words} of=/big 2>/dev/null\n")
        ground.run([floors.shell(f"{words} of=big", ground.directory)])
        return [
            *cold_builds(ground, Build(recipe, f"bench-{self.name}")),
            floors.sha256sum(ground, [ground.path("big")]),
        ]


@dataclass(frozen=True, slots=True)
class CopyTree:
    """COPY of a tree: into an empty store, again, and again after one of its files was changed."""

    state: str
    goals: tuple[Goal, ...]
    files: int = 20_000
    bytes_each: int = 20_000

    @property
    def name(self) -> str:
        return f"copy-{self.state}"

    @property
    def title(self) -> str:
        state = {"cold": "cold", "unchanged": "unchanged", "changed": "one file changed"}[self.state]
        return f"COPY of {self.files:,} files, {self.files * self.bytes_each // 10**6} MB, {state}"

    def subjects(self, ground: Ground) -> list[Subject]:
        tree(ground.path("context/tree"), ground.size(self.files), self.bytes_each)
        recipe = ground.write("context/Dockerfile", f"FROM {BASE}\nCOPY tree /tree\n")
        build = Build(recipe, f"bench-{self.name}")
        if self.state == "cold":
            copied = ground.path("context/tree")
            return [
                *cold_builds(ground, build),
                floors.cp(ground, copied),
                floors.sha256sum_of_tree(copied),
                floors.tar_and_sha256sum(ground, copied),
            ]

        def change(run: int) -> None:
            source = random.Random(f"change {run}")
            with open(ground.path("context/tree/d00000/f0000007"), "wb") as file:
                file.write(source.randbytes(self.bytes_each))

        def subject(peer: Builder) -> Subject:
            first = lambda: ground.run(peer.build(build))  # noqa: E731
            return after(
                peer, first, lambda run: peer.build(build), change if self.state == "changed" else None
            )

        return [subject(peer) for peer in ground.builders]
