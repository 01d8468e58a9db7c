"""containers/: the uppers of containers that were run and not removed. docs/decisions/0003-containers.md says
why here.

    containers/<id>/diff/          what the container wrote: an overlay upperdir
    containers/<id>/work/          overlayfs's own, made anew for each run
    containers/<id>/config.json    image, command, when, how it ended

A container that runs is held by the flock of its directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cache.disk import storing
from cache.errors import StoreError
from cache.locks import flocked, try_flock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.scratch import Scratch

_ID = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Container:
    """A container that was run. `chain_id` is the root filesystem below its upper ("" for an empty one);
    times in seconds since 1970; `status` is its exit code, None while it runs or if pybuild was killed."""

    id: str
    name: str
    image: str
    chain_id: str
    command: tuple[str, ...]
    created: int
    status: int | None = None


class ContainerStore:
    """The containers of the store at `root`."""

    def __init__(self, root: str, scratch: Scratch) -> None:
        self._path = root + "/containers"
        self._layerdb = root + "/layerdb/sha256"
        self._scratch = scratch

    def upper(self, container_id: str) -> str:
        """Return the path of the container's upper."""
        return f"{self._path}/{container_id}/diff"

    def create(self, container: Container) -> int:
        """Make the directory of a container, and return a descriptor that says that it runs while it is
        open.
        """
        if container.name and self.find(container.name) is not None:
            raise StoreError(
                f"there is a container {container.name} already",
                code="container/exists",
                hint=f"pybuild rm {container.name}",
            )
        if container.name and _NAME.fullmatch(container.name) is None:
            raise StoreError(f"not a name for a container: {container.name!r}", code="container/name")
        path = f"{self._path}/{container.id}"
        with storing("making a container"), flocked(self._layerdb):  # no prune meanwhile
            os.makedirs(path, 0o700)
            fd = os.open(path, _DIRECTORY)
            try_flock(fd)
            os.mkdir(path + "/diff")
            os.chmod(path + "/diff", 0o755)
            os.mkdir(path + "/work", 0o700)
            self._write(container)
        return fd

    def finish(self, container: Container) -> None:
        """Keep how the container ended."""
        with storing("writing a container"):
            self._write(container)

    def all(self) -> tuple[Container, ...]:
        """Return all containers, the newest first."""
        return tuple(sorted(self._read_all(), key=lambda c: (-c.created, c.id)))

    def find(self, text: str) -> Container | None:
        """Return the container that `text` means: a name, or the start of an id. Raises StoreError if
        several do.
        """
        found = [c for c in self._read_all() if c.name == text]
        if not found and len(text) >= 2:
            found = [c for c in self._read_all() if c.id.startswith(text)]
        if len(found) > 1:
            raise StoreError(
                f"{len(found)} containers have ids that begin with {text}", code="container/ambiguous"
            )
        return found[0] if found else None

    def is_running(self, container_id: str) -> bool:
        """Return whether a process holds the container."""
        try:
            fd = os.open(f"{self._path}/{container_id}", _DIRECTORY)
        except FileNotFoundError:
            return False
        try:
            return not try_flock(fd)
        finally:
            os.close(fd)

    def remove(self, container_id: str) -> None:
        """Remove a container that does not run. Raises StoreError if it does."""
        if self.is_running(container_id):
            raise StoreError(f"container {container_id[:12]} is running", code="container/running")
        with storing("removing a container"), contextlib.suppress(FileNotFoundError):
            self._scratch.take_away(f"{self._path}/{container_id}").discard()

    def _read_all(self) -> Iterator[Container]:
        try:
            names = os.listdir(self._path)
        except FileNotFoundError:
            return
        for name in names:
            if _ID.fullmatch(name):
                found = self._read(name)
                if found is not None:
                    yield found

    def _read(self, container_id: str) -> Container | None:
        try:
            with open(f"{self._path}/{container_id}/config.json", encoding="utf-8") as file:
                value = json.load(file)
            return Container(**{**value, "command": tuple(value["command"]), "id": container_id})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _write(self, container: Container) -> None:
        path = f"{self._path}/{container.id}/config.json"
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(asdict(container), file, indent=2)
        os.rename(path + ".new", path)
