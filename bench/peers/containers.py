"""buildah and skopeo, which keep their images in the same kind of store (containers/storage)."""

from __future__ import annotations

import os
import resource
import shutil
from dataclasses import dataclass, field

from bench import cgroup
from bench.command import Command
from bench.mounts import unmount_below
from bench.peers.protocol import Build, Compression, do, first_line
from bench.samples import Kind

_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{0}/graph"
runroot = "{0}/run"
"""


@dataclass(slots=True)
class Storage:
    """A store in a directory, into which skopeo copies."""

    directory: str
    environment: dict[str, str] = field(default_factory=dict)
    loaded: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        os.mkdir(self.directory)
        containers, storage = (
            os.path.join(self.directory, name) for name in ("containers.conf", "storage.conf")
        )
        # By default it raises the limits beyond those of this process: CAP_SYS_RESOURCE may be missing.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with open(containers, "w", encoding="utf-8") as file:
            file.write(f'[containers]\ndefault_ulimits = ["nofile={files}:{files}"]\n')
            file.write('[engine]\nruntime = "runc"\n')
        with open(storage, "w", encoding="utf-8") as file:
            file.write(_STORAGE.format(self.directory))
        self.environment = {
            "CONTAINERS_CONF": containers,
            "CONTAINERS_STORAGE_CONF": storage,
            "TMPDIR": self.directory,
        }

    def load(self, archive: str, name: str) -> None:
        target = f"containers-storage:localhost/{name}:latest"
        do("skopeo", "copy", "--quiet", f"oci-archive:{archive}", target, environment=self.environment)
        self.loaded[name] = archive

    def forget(self) -> None:
        unmount_below(self.directory)
        for part in ("graph", "run"):
            shutil.rmtree(os.path.join(self.directory, part), ignore_errors=True)
        for name, archive in self.loaded.items():
            self.load(archive, name)


@dataclass(slots=True)
class _InStorage:
    """A peer that keeps its images in a store of containers/storage."""

    name: str
    kind: Kind = "peer"
    _storage: Storage | None = None

    @property
    def loaded(self) -> dict[str, str]:
        return self._store.loaded

    def set_up(self, directory: str) -> None:
        self._storage = Storage(directory)

    def load(self, archive: str, name: str) -> None:
        self._store.load(archive, name)

    def forget(self) -> None:
        self._store.forget()

    def daemons(self) -> list[int]:
        return []

    @property
    def _store(self) -> Storage:
        assert self._storage is not None, "not set up"
        return self._storage


@dataclass(slots=True)
class Buildah(_InStorage):
    """Debian's buildah with `--layers`, that is, with its cache, in one of its kinds of isolation."""

    isolation: str = "oci"

    def version(self) -> str:
        line = first_line("buildah", "--version")
        return f"{line.split(' (')[0]}, --isolation {self.isolation}, {first_line('runc', '--version')}"

    def forget(self) -> None:
        self._remove_containers()
        self._store.forget()

    def build(self, build: Build) -> list[Command]:
        options = ["--layers", "--network", "host", "--isolation", self.isolation, "--pull-never"]
        options += ["--cgroup-parent", cgroup.COMMANDS]
        return [self._command("build", *options, *build.words())]

    def build_archive(self, build: Build, path: str) -> list[Command]:
        return [*self.build(build), *self.archive(build.tag, path, "gzip")]

    def archive(self, tag: str, path: str, compression: Compression) -> list[Command]:
        options = ["--quiet", "--format", "oci", "--compression-format", compression]
        return [self._command("push", *options, f"localhost/{tag}", f"oci-archive:{path}")]

    def push(self, tag: str, reference: str) -> list[Command]:
        return [
            self._command(
                "push", "--quiet", "--tls-verify=false", f"localhost/{tag}", f"docker://{reference}"
            )
        ]

    def pull(self, reference: str) -> list[Command]:
        return [self._command("pull", "--quiet", "--tls-verify=false", f"docker://{reference}")]

    def tear_down(self) -> None:
        if self._storage is not None:
            self._remove_containers()

    def _remove_containers(self) -> None:
        """A failed build leaves its working container mounted."""
        do("buildah", "rm", "--all", environment=self._store.environment)

    def _command(self, *words: str) -> Command:
        return Command(["buildah", *words], self._store.environment)


@dataclass(slots=True)
class Skopeo(_InStorage):
    """Debian's skopeo: pushes from a store and pulls into it."""

    name: str = "skopeo"

    def version(self) -> str:
        return first_line("skopeo", "--version")

    def archive(self, tag: str, path: str, compression: Compression) -> list[Command]:
        options = ["--dest-compress-format", compression]
        return [self._copy(*options, f"containers-storage:localhost/{tag}:latest", f"oci-archive:{path}")]

    def push(self, tag: str, reference: str) -> list[Command]:
        source, target = f"containers-storage:localhost/{tag}:latest", f"docker://{reference}"
        return [self._copy("--dest-tls-verify=false", source, target)]

    def pull(self, reference: str) -> list[Command]:
        source, target = f"docker://{reference}", f"containers-storage:{reference}"
        return [self._copy("--src-tls-verify=false", source, target)]

    def tear_down(self) -> None:
        """Nothing of a copy outlives it."""

    def _copy(self, *words: str) -> Command:
        return Command(["skopeo", "copy", "--quiet", *words], self._store.environment)
