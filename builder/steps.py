"""The frozen step types that planning makes of instructions, and what their stages stand on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder.remotes.address import Address
from cache.oci.platform import Platform
from cache.oci.spec import ContainerConfig, ImageConfig
from grammar.source import Span


@dataclass(frozen=True, slots=True)
class ImageBase:
    """An image by reference: `name[:tag][@digest]`, or `transport://…` with the flags of its transport."""

    reference: str
    platform: Platform
    options: tuple[tuple[str, str], ...] = ()
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class RecipeBase:
    """An image that another recipe builds. `path` is relative to the directory of the recipe that names
    it.
    """

    path: str
    target: str | None
    platform: Platform
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class StageBase:
    """Another stage of the same recipe."""

    index: int


@dataclass(frozen=True, slots=True)
class Scratch:
    """Nothing at all."""


Base = ImageBase | RecipeBase | StageBase | Scratch


def describe(base: Base, names: Mapping[int, str]) -> str:
    """Return what is shown of a base: as FROM names it; a stage by its name in `names`, else its number."""
    if isinstance(base, ImageBase):
        return base.reference
    if isinstance(base, RecipeBase):
        return f"{base.path}#{base.target}" if base.target else base.path
    if isinstance(base, StageBase):
        return f"stage {names[base.index].rpartition('#')[2] if base.index in names else base.index}"
    return "scratch"


@dataclass(frozen=True, slots=True)
class ContextTree:
    """COPY reads the build context."""


@dataclass(frozen=True, slots=True)
class LocalTree:
    """A directory that `--build-context` gives a name: it has an ignore file of its own. `path` is absolute.
    `origin` says where it was fetched from, for this build alone: then no ignore file counts.
    """

    path: str
    name: str
    origin: str = ""


Directory = ContextTree | LocalTree
"""A tree on this machine's disk: known by its files, where the others are by their ChainID."""

Tree = Directory | StageBase | ImageBase | RecipeBase
"""Where COPY reads from."""


@dataclass(frozen=True, slots=True)
class BindMount:
    """A file or directory of `tree`. What is written to it, where that is allowed, is thrown away."""

    target: str
    tree: Tree | Scratch
    source: str = "/"
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A directory that is kept from one build to the next. A new one begins with what `tree` has at `source`;
    without a tree it begins empty, and `source` is the part of it that is mounted. Owner and mode are a new
    one's, None where they are not given.
    """

    target: str
    id: str
    sharing: str = "shared"
    tree: Tree | None = None
    source: str = "/"
    read_only: bool = False
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """An empty directory in memory; `size` in bytes, None for half of the memory."""

    target: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class SecretMount:
    """A secret: as a file at `target` ("" for none), as the variable `env` ("" for none), or as both."""

    target: str
    id: str
    env: str = ""
    required: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o400


@dataclass(frozen=True, slots=True)
class SshMount:
    """The socket of an ssh agent."""

    target: str
    id: str
    required: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o600


StepMount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for every command that is run, those of the recipes below included.

    `network` is "host" or "none", `allowed` are entitlements (--allow); `aliases` are names of bases, and
    what they stand for; the others as of ExecRequest.
    """

    network: str = "host"
    allowed: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    rlimits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int | None = None
    no_new_privileges: bool = False
    aliases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ExecStep:
    """RUN: a command in the sandbox, whose changeset becomes a layer.

    `env` is complete, in order. `proxies` are the predefined proxy arguments: the command sees them, the key
    does not. `script`: a heredoc with a `#!` line, which is mounted and executed. `mounts` are in the order
    in which they are mounted. `security` is "insecure" or "". `extra_hosts`, `rlimits`, `shm_size`
    and `no_new_privileges` are what the command line asks for, as of builder.executor.ExecRequest. `timeout`
    is its own, in nanoseconds.
    """

    span: Span
    text: str
    created_by: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    user: str
    workdir: str
    network: str
    proxies: tuple[tuple[str, str], ...] = ()
    script: bytes | None = None
    mounts: tuple[StepMount, ...] = ()
    security: str = ""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    rlimits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int | None = None
    no_new_privileges: bool = False
    timeout: int | None = None

    @property
    def trees(self) -> tuple[StageBase | ImageBase | RecipeBase, ...]:
        """The stages and images that its mounts show."""
        found = [mount.tree for mount in self.mounts if isinstance(mount, BindMount | CacheMount)]
        return tuple(tree for tree in found if tree is not None and not isinstance(tree, Directory | Scratch))


@dataclass(frozen=True, slots=True)
class CopyStep:
    """COPY or ADD. `dest` is absolute; with `into_directory` it ended in a slash or has to be a directory.
    `unpack`: files that are archives are unpacked. `link`: it is as if nothing were below; so a symbolic link
    at the destination is not followed but replaced.

    `parents`: sources keep their directories. `exclude`: patterns of what is left out of sources.

    `remote` has those of `sources` that are elsewhere, by their place there, where they stand as they may be
    shown. `unpack_remote`: they are unpacked, too.
    """

    span: Span
    text: str
    created_by: str
    tree: Tree
    sources: tuple[str, ...]
    documents: tuple[tuple[str, bytes], ...]
    dest: str
    into_directory: bool
    chown: str
    chmod: str
    unpack: bool = False
    link: bool = False
    remote: tuple[tuple[int, Address], ...] = ()
    unpack_remote: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkdirStep:
    """WORKDIR: creates the directory, owned by the current user, where it is missing."""

    span: Span
    text: str
    created_by: str
    path: str
    user: str


@dataclass(frozen=True, slots=True)
class PackagesStep:
    """PACKAGES: packages of a package manager, sorted, each a name and a version ("": whichever there is).

    `pins` are all packages that it has to install, in the versions of a lock file; None where none says.
    `env`, `proxies` and what the command line asks for are as of ExecStep.
    """

    span: Span
    text: str
    created_by: str
    manager: str
    packages: tuple[tuple[str, str], ...]
    env: tuple[tuple[str, str], ...]
    network: str = "host"
    proxies: tuple[tuple[str, str], ...] = ()
    pins: tuple[tuple[str, str], ...] | None = None
    extra_hosts: tuple[tuple[str, str], ...] = ()
    rlimits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int | None = None
    no_new_privileges: bool = False


@dataclass(frozen=True, slots=True)
class ConfigStep:
    """An instruction that changes the config alone: an entry in the history without a layer."""

    span: Span
    text: str
    created_by: str


@dataclass(frozen=True, slots=True)
class TestStep:
    """TEST: a command, or a testinfra suite, on a throw-away upper. It leaves no layer and no history.

    `config` is the image's as of this line. `network` is "none" or ""; it and what follows are what the
    command line asks for, but for `timeout`, which is its own, in nanoseconds.
    """

    span: Span
    text: str
    name: str
    config: ContainerConfig
    argv: tuple[str, ...] = ()
    script: bytes | None = None
    suite: str | None = None
    network: str = ""
    extra_hosts: tuple[tuple[str, str], ...] = ()
    rlimits: tuple[tuple[str, int, int], ...] = ()
    shm_size: int | None = None
    no_new_privileges: bool = False
    timeout: int | None = None


LayerStep = ExecStep | CopyStep | WorkdirStep | PackagesStep
"""What makes a layer."""

Step = LayerStep | ConfigStep | TestStep


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage that the target needs: what it stands on, its steps in order, and the config that it ends
    with. `no_cache`: its steps run, whatever is known of them.
    """

    index: int
    name: str
    base: Base
    steps: tuple[Step, ...]
    config: ContainerConfig
    image: ImageConfig
    needs: tuple[int, ...]
    no_cache: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages that the target needs, each after those that it needs itself; the target is the last one."""

    recipe: str
    stages: tuple[PlannedStage, ...]
    target: str
    warnings: tuple[tuple[str, str, Span | None], ...] = ()
