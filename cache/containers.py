"""containers/: the uppers of containers that were run and not removed. docs/decisions/containers.md says why
here.

    containers/<id>/diff/          what the container wrote: an overlay upperdir
    containers/<id>/work/          overlayfs's own, made anew for each run
    containers/<id>/config.json    image, command, when, how it ended
    containers/<id>/state.json     its processes, and how more are started in it, while it runs
    containers/<id>/status         its exit code, once it has ended: for who waits
    containers/<id>/log, log.1     what it wrote, if nobody was there to read it: JSON lines

A container that runs is held by the flock of its directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from dataclasses import asdict, dataclass
from fcntl import LOCK_NB, LOCK_SH, flock
from typing import TYPE_CHECKING

from cache.disk import storing
from cache.errors import StoreError
from cache.locks import flocked, try_flock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.scratch import Scratch

_ID = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Container:
    """A container that was run. `chain_id` is the root filesystem below its upper ("" for an empty one);
    times in seconds since 1970; `status` is its exit code, None while it runs or if pybuild was killed.
    `auto_remove`: it goes when it ends, whoever finds that it has. `reference`: its image as the user named
    it. `ports`: HOST:PORT->PORT/PROTOCOL. `stop_signal`: what asks it to end, "" for SIGTERM."""

    id: str
    name: str
    image: str
    chain_id: str
    command: tuple[str, ...]
    created: int
    status: int | None = None
    auto_remove: bool = False
    reference: str = ""
    ports: tuple[str, ...] = ()
    stop_signal: str = ""
    detached: bool = False
    finished: int | None = None


class ContainerStore:
    """The containers of the store at `root`."""

    def __init__(self, root: str, scratch: Scratch | None = None) -> None:
        """Without `scratch`, they can be looked at, and none be removed."""
        self._path = root + "/containers"
        self._layerdb = root + "/layerdb/sha256"
        self._scratch = scratch

    def upper(self, container_id: str) -> str:
        """Return the path of the container's upper."""
        return f"{self._path}/{container_id}/diff"

    def directory(self, container_id: str) -> str:
        """Return the path of what is kept of the container."""
        return f"{self._path}/{container_id}"

    def wait(self, container_id: str) -> int | None:
        """Return when no process holds the container any more: its exit code, None if there is none."""
        try:
            fd = os.open(f"{self._path}/{container_id}", _DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            # Opened before: when the lock is released, the container may be on its way out.
            with open(os.open("status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd), encoding="ascii") as file:
                flock(fd, LOCK_SH)
                return int(file.read() or 128 + signal.SIGKILL)
        except FileNotFoundError:
            return None
        finally:
            os.close(fd)

    def get(self, container_id: str) -> Container | None:
        """Return the container as it is now; None if it has been removed."""
        return self._read(container_id)

    def create(self, container: Container) -> int:
        """Make the directory of a container, and return a descriptor that says that it runs while it is
        open.
        """
        if container.name and _NAME.fullmatch(container.name) is None:
            raise StoreError(
                f"not a name for a container: {container.name!r}",
                code="container/name",
                hint="letters and digits, and after the first also `_`, `.` and `-`",
            )
        self.sweep()
        path = f"{self._path}/{container.id}"
        with (
            storing("making a container"),
            flocked(self._layerdb),
        ):  # no prune meanwhile, no other of that name
            if container.name and any(c.name == container.name for c in self._read_all()):
                raise StoreError(
                    f"there is a container {container.name} already",
                    code="container/exists",
                    hint=f"pybuild rm {container.name}",
                )
            os.makedirs(path, 0o700)
            fd = os.open(path, _DIRECTORY)
            try_flock(fd)
            os.mkdir(path + "/diff")
            os.chmod(path + "/diff", 0o755)
            os.mkdir(path + "/work", 0o700)
            with open(path + "/status", "x"):
                pass
            self._write(container)
        return fd

    def finish(self, container: Container) -> None:
        """Keep how the container ended."""
        with storing("writing a container"):
            self._write(container)
            with open(f"{self._path}/{container.id}/status", "w", encoding="ascii") as file:
                file.write(str(container.status))

    def all(self) -> tuple[Container, ...]:
        """Return all containers, the newest first."""
        self.sweep()
        return tuple(sorted(self._read_all(), key=lambda c: (-c.created, c.id)))

    def sweep(self) -> None:
        """Remove those that were to go when they end, and whose pybuild did not live to see it."""
        for container in tuple(self._read_all()):
            if self._scratch is not None and container.auto_remove and not self.is_running(container.id):
                with contextlib.suppress(StoreError):
                    self.remove(container.id)

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
            flock(fd, LOCK_SH | LOCK_NB)  # shared: who looks is in nobody's way
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(fd)

    def signal(self, container_id: str, number: int) -> None:
        """Send a signal to the process that holds the container, if any does."""
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(f"{self._path}/{container_id}", _DIRECTORY)
            try:
                holder = flock_holder(fd)
                if holder is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(holder, number)
            finally:
                os.close(fd)

    def kill(self, container_id: str) -> None:
        """Kill the process that holds the container, and with it all that runs in there; return when it is
        dead.
        """
        try:
            fd = os.open(f"{self._path}/{container_id}", _DIRECTORY)
        except FileNotFoundError:
            return
        try:
            holder = flock_holder(fd)
            if holder is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(holder, signal.SIGKILL)
                flock(fd, LOCK_SH)
        finally:
            os.close(fd)

    def remove(self, container_id: str) -> None:
        """Remove a container that does not run. Raises StoreError if it does."""
        if self.is_running(container_id):
            raise StoreError(f"container {container_id[:12]} is running", code="container/running")
        assert self._scratch is not None
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
            words = {name: tuple(value.get(name, ())) for name in ("command", "ports")}
            return Container(**{**value, **words, "id": container_id})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _write(self, container: Container) -> None:
        path = f"{self._path}/{container.id}/config.json"
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(asdict(container), file, indent=2)
        os.rename(path + ".new", path)


def flock_holder(fd: int) -> int | None:
    """Return the process that has the flock of what is open as `fd` for itself alone (proc_locks(5)); None
    if there is none that we can see.
    """
    facts = os.fstat(fd)
    place = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}:{facts.st_ino}"
    with open("/proc/locks", encoding="ascii") as file:
        for line in file:
            # 1: FLOCK  ADVISORY  WRITE 708 08:01:12345 0 EOF
            words = line.split()
            if words[1:4] == ["FLOCK", "ADVISORY", "WRITE"] and words[5] == place and int(words[4]) > 0:
                return int(words[4])
    return None
