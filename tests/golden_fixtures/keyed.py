"""The keys of a plan's steps, as if each step had run: what they read has a digest that says what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.keys import StepKey, check_key, copy_key, exec_key, packages_key, workdir_key
from builder.steps import (
    BindMount,
    CacheMount,
    ConfigStep,
    CopyStep,
    ExecStep,
    PackagesStep,
    StageBase,
    TestStep,
    WorkdirStep,
)
from cache.oci.digest import ChainID, Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.steps import Base, Plan, PlannedStage, Step


def keyed(plan: Plan) -> Iterator[tuple[PlannedStage, Step, StepKey]]:
    """Yield each step that has a key, with its stage. The state that a step leaves is named after its key."""
    states: dict[Base, ChainID | None] = {}
    for stage in plan.stages:
        below = states.get(stage.base) if isinstance(stage.base, StageBase) else _made_up(stage.base)
        for step in stage.steps:
            key = key_of(step, below, str(stage.image.platform))
            if key is None:
                continue
            yield stage, step, key
            if not isinstance(step, TestStep):
                below = _chain_id(key.key)
        states[StageBase(stage.index)] = below


def key_of(step: Step, below: ChainID | None, platform: str) -> StepKey | None:
    """Return the key of a step on the state `below`; None for one that changes the config alone."""
    if isinstance(step, ConfigStep):
        return None
    if isinstance(step, ExecStep):
        mounted = tuple((each.target, f"digest of {each.source} in {each.tree}") for each in _with_tree(step))
        return exec_key(step, below, platform, mounted)
    if isinstance(step, WorkdirStep):
        return workdir_key(step, below)
    if isinstance(step, TestStep):
        return check_key(step, below, platform, f"digest of {step.suite}" if step.suite else "")
    if isinstance(step, PackagesStep):
        return packages_key(step, below, platform)
    assert isinstance(step, CopyStep)
    trees = [(name, f"digest of {name} in {step.tree}") for name in step.sources]
    documents = [(f"<<{name}", f"digest of {data!r}") for name, data in step.documents]
    return copy_key(step, below, (*trees, *documents))


def _with_tree(step: ExecStep) -> list[BindMount | CacheMount]:
    """Return the mounts that show files."""
    return [
        mount for mount in step.mounts if isinstance(mount, BindMount | CacheMount) and mount.tree is not None
    ]


def _made_up(base: Base) -> ChainID | None:
    reference = getattr(base, "reference", None) or getattr(base, "path", None)
    return _chain_id(str(reference)) if reference else None


def _chain_id(name: str) -> ChainID:
    return ChainID(Digest.of(name.encode()))
