"""The mounts of a RUN as it runs: what planning has named is opened, made and lent to the executor, and gone
when the step has ended.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.steps import (
    BindMount,
    CacheMount,
    Directory,
    ExecStep,
    Scratch,
    SecretMount,
    SshMount,
    TmpfsMount,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from builder.executor import ExecRequest, Mount
    from builder.keys import Part
    from builder.secrets import Secrets
    from builder.sharedcache import Facts
    from builder.sources import Sources
    from builder.ssh import Agents
    from builder.steps import Base, StepMount, Tree
    from cache.cachemounts import Held, Request
    from cache.oci.digest import ChainID
    from cache.store import Store


def mounted_parts(
    step: ExecStep, sources: Sources, chain_of: Callable[[Base], ChainID], facts: Facts | None = None
) -> tuple[Part, ...]:
    """Return, for each mount that shows files, its target and their digest. `chain_of` gives the ChainID of a
    stage or an image, EMPTY if it has no layers; `facts` are as those of Sources. Raises PlanError.
    """
    return tuple(
        (mount.target, sources.mounted(tree, mount.source, _chain(tree, chain_of), facts))
        for mount in step.mounts
        if isinstance(mount, BindMount | CacheMount)
        and (tree := mount.tree) is not None
        and not isinstance(tree, Scratch)
    )


def _chain(tree: Tree, chain_of: Callable[[Base], ChainID]) -> ChainID | None:
    return None if isinstance(tree, Directory) else chain_of(tree)


def _text(mount: SecretMount, value: bytes) -> str:
    if b"\0" in value:
        raise UsageError(
            f"the secret {mount.id} cannot be a variable: it has a NUL byte in it",
            code="secret/variable",
            hint=f"--mount=type=secret,id={mount.id} without env= makes a file of it",
        )
    return value.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class StepMounts:
    """What the mounts of a stage's steps are made of. `waiting` is told the id of a cache mount that another
    build has.
    """

    store: Store
    sources: Sources
    secrets: Secrets
    agents: Agents
    chain_of: Callable[[Base], ChainID]
    waiting: Callable[[str], None]

    @contextmanager
    def lent(self, step: ExecStep, request: ExecRequest) -> Iterator[ExecRequest]:
        """Yield `request` with the mounts of `step`, and the variables that come with them.

        Raises UsageError for a secret or an agent that was not given, HostError, StoreError.
        """
        with ExitStack() as opened:
            made: dict[int, Mount] = {}
            env = dict(request.env)
            for number, mount in enumerate(step.mounts):
                self._open(mount, opened, env, made, number)
            # The innermost first: those around it need a place for it.
            for number, mount in reversed([*enumerate(step.mounts)]):
                if isinstance(mount, BindMount):
                    made[number] = self._bind(mount, opened, self._places(step, mount, made))
            # What may wait for another build comes last: nothing is taken meanwhile that it could want.
            self._caches(step, opened, made)
            agents = [mount.target for mount in step.mounts if isinstance(mount, SshMount)]
            if agents:
                env.setdefault("SSH_AUTH_SOCK", agents[0])
            mounts = (*request.mounts, *(made[number] for number in sorted(made)))
            yield replace(request, mounts=mounts, env=tuple(env.items()))

    def _open(
        self, mount: StepMount, opened: ExitStack, env: dict[str, str], made: dict[int, Mount], number: int
    ) -> None:
        from builder.executor import Mount

        if isinstance(mount, TmpfsMount):
            made[number] = Mount("tmpfs", mount.target, size=mount.size)
        elif isinstance(mount, SecretMount):
            value = self.secrets.get(mount.id, required=mount.required)
            if mount.env:
                # BuildKit, too, sets the variable if there is no such secret.
                env[mount.env] = _text(mount, value or b"")
            if mount.target and value is not None:
                made[number] = Mount(
                    "file",
                    mount.target,
                    read_only=True,
                    mode=mount.mode,
                    uid=mount.uid,
                    gid=mount.gid,
                    data=value,
                )
        elif isinstance(mount, SshMount):
            directory = opened.enter_context(self.store.scratch.directory("ssh")).path
            owner = mount.uid, mount.gid
            forwarding = self.agents.forward(
                mount.id, directory, required=mount.required, owner=owner, mode=mount.mode
            )
            path = opened.enter_context(forwarding)
            if path is not None:
                made[number] = Mount("bind", mount.target, source=path)

    def _places(self, step: ExecStep, outer: BindMount, made: Mapping[int, Mount]) -> list[tuple[str, bool]]:
        """Return the paths in `outer`, and whether they are directories, on which other mounts come."""
        top = outer.target + "/"
        return [
            (mount.target.removeprefix(top), self._is_directory(mount))
            for number, mount in enumerate(step.mounts)
            if mount.target.startswith(top) and (number in made or isinstance(mount, CacheMount))
        ]

    def _is_directory(self, mount: StepMount) -> bool:
        if not isinstance(mount, BindMount) or isinstance(mount.tree, Scratch):
            return not isinstance(mount, SecretMount | SshMount)
        chain_id = _chain(mount.tree, self.chain_of)
        return self.sources.shown(mount.tree, mount.source, chain_id)[1].is_directory

    def _bind(self, mount: BindMount, opened: ExitStack, places: list[tuple[str, bool]]) -> Mount:
        """Return the mount. In one that is read-only, places for other mounts come from a lower of their own,
        below all others.
        """
        from builder.executor import Mount
        from builder.overlay import Overlay
        from builder.sources import EMPTY
        from builder.views import make_places, make_view

        tree, source, ro = mount.tree, mount.source, mount.read_only
        if isinstance(tree, Directory) and not ro:
            upper = opened.enter_context(self.store.stage()).upper
            shown = self.sources.shown(tree, source, None)
            return Mount("bind", mount.target, source=make_view(*shown, (0, 0), upper))
        chain_id = EMPTY if isinstance(tree, Scratch) else _chain(tree, self.chain_of)
        lower: tuple[str, ...]
        if chain_id is None:
            assert isinstance(tree, Directory)
            view = self.sources.view(tree, source)
            if not places or not self._is_directory(mount):
                return Mount("bind", mount.target, source=view, read_only=True)
            lower, source = (view,), "/"
        else:
            lower = self.store.layers.lowerdirs(chain_id) if chain_id else ()
        if not lower or (ro and places):
            directory = opened.enter_context(self.store.stage()).upper
            make_places(directory + source, places)
            lower = (*lower, directory)
        overlay = Overlay(lower)
        if not ro:
            staging = opened.enter_context(self.store.stage())
            overlay = Overlay(lower, staging.upper, staging.work)
        return Mount("bind", mount.target, source=overlay, subpath=source.lstrip("/"), read_only=ro)

    def _caches(self, step: ExecStep, opened: ExitStack, made: dict[int, Mount]) -> None:
        wanted = [
            (number, mount) for number, mount in enumerate(step.mounts) if isinstance(mount, CacheMount)
        ]
        if not wanted:
            return
        from builder.executor import Mount

        requests = [self._request(mount) for _, mount in wanted]
        acquiring = self.store.cache_mounts.acquire_all(requests, on_wait=self.waiting)
        held: list[Held] = opened.enter_context(acquiring)
        for (number, mount), instance in zip(wanted, held, strict=True):
            subpath = mount.source.lstrip("/") if mount.tree is None else ""
            made[number] = Mount(
                "bind", mount.target, source=instance.path, subpath=subpath, read_only=mount.read_only
            )

    def _request(self, mount: CacheMount) -> Request:
        from cache.cachemounts import DEFAULT_MODE, Identity, Request

        mode = DEFAULT_MODE if mount.mode is None else mount.mode
        uid, gid, sharing = mount.uid or 0, mount.gid or 0, mount.sharing
        tree = mount.tree
        if tree is None:
            return Request(Identity(mount.id, "", uid, gid, mode), sharing)  # type: ignore[arg-type]
        chain_id = _chain(tree, self.chain_of)
        base = self.sources.mounted(tree, mount.source, chain_id)
        identity = Identity(mount.id, base, uid, gid, mode)
        return Request(identity, sharing, lambda path: self._fill(mount, tree, chain_id, path))  # type: ignore[arg-type]

    def _fill(self, mount: CacheMount, tree: Tree, chain_id: ChainID | None, path: str) -> None:
        """Put into a new cache what it begins with."""
        from builder.views import fill

        owner = (0, 0) if chain_id is None else None
        fill(*self.sources.shown(tree, mount.source, chain_id), owner, path)
