"""What a comparison asks of a builder."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from bench.command import Command, CommandFailed
from bench.samples import Kind

Compression = Literal["gzip", "zstd"]


class Unavailable(Exception):
    """A peer is not on this machine; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Build:
    """A build: its recipe, whose directory is the context; the image's name; the stage, the last one if
    none.
    """

    recipe: str
    tag: str
    target: str = ""

    @property
    def context(self) -> str:
        return os.path.dirname(self.recipe)

    def words(self) -> list[str]:
        """Return the options that all builders share."""
        target = ["--target", self.target] if self.target else []
        return [*target, "-t", self.tag, "-f", self.recipe, self.context]


class Peer(Protocol):
    """Something with a store of images of its own, used as its own users would. Its methods return commands
    to measure.
    """

    @property
    def name(self) -> str:
        """What the command line and the report call it."""

    @property
    def kind(self) -> Kind:
        """Whether it is ours."""

    @property
    def loaded(self) -> dict[str, str]:
        """The images that stay when all else is forgotten, by name: the archives that they came from."""

    def version(self) -> str:
        """Return what it says of itself, in one line. Raises Unavailable."""

    def set_up(self, directory: str) -> None:
        """Make an empty store in the new directory `directory`, and start what it takes."""

    def load(self, archive: str, name: str) -> None:
        """Put the image of an OCI archive into the store, as `name`, and note it as loaded."""

    def forget(self) -> None:
        """Remove images, layers and caches: all but what was loaded."""

    def daemons(self) -> list[int]:
        """Return the processes that work for its commands without being their descendants."""

    def archive(self, tag: str, path: str, compression: Compression) -> list[Command]:
        """Write an image of the store to the new file `path`, as an OCI archive."""

    def push(self, tag: str, reference: str) -> list[Command]:
        """Push an image of the store to a registry without TLS."""

    def pull(self, reference: str) -> list[Command]:
        """Pull an image into the store, ready to be built upon."""

    def tear_down(self) -> None:
        """End what was started; leave nothing that keeps the store's directory from being removed."""


@runtime_checkable
class Builder(Peer, Protocol):
    """A peer that builds, and does not only push and pull."""

    def build(self, build: Build) -> list[Command]:
        """Build into the store."""

    def build_archive(self, build: Build, path: str) -> list[Command]:
        """Build, and write the image to the new file `path`, as an OCI archive with gzip."""


def first_line(*words: str) -> str:
    """Return the first line that a command prints. Raises Unavailable."""
    if shutil.which(words[0]) is None:
        raise Unavailable(f"there is no {words[0]} on this machine")
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[0]


def do(*words: str, environment: dict[str, str]) -> str:
    """Run what prepares a measurement; return its output. Raises CommandFailed."""
    done = subprocess.run(
        words,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise CommandFailed(f"`{' '.join(words)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()
