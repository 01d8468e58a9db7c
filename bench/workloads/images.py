"""What happens to a built image of some size: export, push, pull."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from bench.goals import Goal
from bench.peers.protocol import Build, Builder, Compression, Peer
from bench.registry import Registry
from bench.rounds import Subject
from bench.workloads.ground import BASE, Ground, after, fresh, from_nothing

_LAYERS = 8
_SOURCES = ("/usr/lib", "/usr/bin", "/usr/share", "/usr/sbin")
_TAG = "bench-image"


def programs(size: int) -> Iterator[tuple[str, int]]:
    """Yield regular files of this machine's programs and libraries, with their sizes, `size` bytes
    altogether.

    Real files, as compression does with them what it does with images; from the beginning again where there
    are too few.
    """
    total = 0
    while total < size:
        before = total
        for source in _SOURCES:
            for directory, below, names in os.walk(source):
                below.sort()
                for name in sorted(names):
                    path = os.path.join(directory, name)
                    status = os.lstat(path)
                    if (
                        not stat.S_ISREG(status.st_mode)
                        or status.st_nlink > 1
                        or status.st_size > size // _LAYERS
                    ):
                        continue
                    yield path, status.st_size
                    total += status.st_size
                    if total >= size:
                        return
        assert total > before, "no programs on this machine"


def image(ground: Ground, megabytes: int) -> Build:
    """Make a context of that size, and return the build that makes an image of several layers of it."""
    size = ground.size(megabytes) * 10**6
    done = number = 0
    for path, bytes_each in programs(size):
        layer = ground.path(f"context/part{done * _LAYERS // size}")
        os.makedirs(layer, exist_ok=True)
        shutil.copyfile(path, os.path.join(layer, f"{number:06}"))
        done, number = done + bytes_each, number + 1
    copies = "".join(f"COPY part{layer} /part{layer}\n" for layer in range(_LAYERS))
    return Build(ground.write("context/Dockerfile", f"FROM {BASE}\n{copies}"), _TAG)


def _built(ground: Ground, peer: Builder, build: Build) -> None:
    peer.forget()
    ground.run(peer.build(build))


@dataclass(frozen=True, slots=True)
class Export:
    """A built image is written to an OCI archive. pybuild keeps compressed layers: it finds none here."""

    compression: Compression
    goals: tuple[Goal, ...]
    megabytes: int = 1000

    @property
    def name(self) -> str:
        return f"export-{self.compression}"

    @property
    def title(self) -> str:
        return f"Export of a {self.megabytes / 1000:g} GB image, {self.compression}"

    def subjects(self, ground: Ground) -> list[Subject]:
        build = image(ground, self.megabytes)

        def subject(peer: Builder) -> Subject:
            def make() -> None:
                _built(ground, peer, build)

            def each(run: int) -> None:
                if peer.kind == "ours":
                    make()

            return after(
                peer, make, lambda run: peer.archive(_TAG, fresh(ground, peer), self.compression), each
            )

        return [subject(peer) for peer in ground.builders]


@dataclass(frozen=True, slots=True)
class Push:
    """A built image is pushed to a registry that has nothing yet; pybuild has no compressed layers either."""

    goals: tuple[Goal, ...]
    megabytes: int = 500
    name: str = "push"

    @property
    def title(self) -> str:
        return f"Push of a {self.megabytes} MB image to a registry on loopback"

    def subjects(self, ground: Ground) -> list[Subject]:
        build = image(ground, self.megabytes)
        archive = ground.path("image.oci")
        ground.run(ground.ours.build_archive(build, archive))
        registry = ground.cleanup.enter_context(Registry(ground.path("registry")))

        def subject(peer: Peer) -> Subject:
            def make() -> None:
                if isinstance(peer, Builder):
                    _built(ground, peer, build)
                else:
                    peer.load(archive, _TAG)
                    ground.cleanup.callback(peer.loaded.pop, _TAG)

            def each(run: int) -> None:
                registry.empty()
                if peer.kind == "ours":
                    make()

            reference = f"{registry.address}/{_TAG}:latest"
            return after(peer, make, lambda run: peer.push(_TAG, reference), each)

        return [subject(peer) for peer in ground.peers]


@dataclass(frozen=True, slots=True)
class Pull:
    """An image is pulled into a store that has nothing of it, until it can be built upon."""

    goals: tuple[Goal, ...]
    megabytes: int = 500
    name: str = "pull"

    @property
    def title(self) -> str:
        return f"Pull of a {self.megabytes} MB image from a registry on loopback"

    def subjects(self, ground: Ground) -> list[Subject]:
        build = image(ground, self.megabytes)
        registry = ground.cleanup.enter_context(Registry(ground.path("registry")))
        reference = f"{registry.address}/{_TAG}:latest"
        ground.run([*ground.ours.build(build), *ground.ours.push(_TAG, reference)])

        def subject(peer: Peer) -> Subject:
            return from_nothing(peer, lambda run: peer.pull(reference))

        return [subject(peer) for peer in ground.peers]
