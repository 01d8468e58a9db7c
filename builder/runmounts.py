"""RUN --mount under planning: from what the options say to what is mounted, where, in which order.

As in BuildKit (frontend/dockerfile/dockerfile2llb/convert_runmount.go and its neighbours).
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from builder.errors import PlanError
from builder.stagestate import StageState, absolute
from builder.steps import (
    BindMount,
    CacheMount,
    ContextTree,
    Scratch,
    SecretMount,
    SshMount,
    StepMount,
    TmpfsMount,
    Tree,
)

if TYPE_CHECKING:
    from grammar import ast
    from grammar.mounts import MountSpec
    from grammar.source import Span

SECRETS = "/run/secrets"
AGENTS = "/run/buildkit/ssh_agent."
"""Where BuildKit puts secrets, and the sockets of agents, by their number, if the recipe does not say."""

SCRATCH = "scratch"
"""`from=scratch`: an empty directory."""


def mounts(state: StageState, instruction: ast.Run) -> tuple[StepMount, ...]:
    """Return the mounts of a RUN in the order in which they are mounted. Raises PlanError, RecipeError.

    Directories come first, sorted by their targets, so that one within another is seen; then secrets and
    agents, in the recipe's order.
    """
    from grammar.mounts import resolve_mount

    trees: list[StepMount] = []
    others: list[StepMount] = []
    agents = 0
    for mount in instruction.mounts:
        spec = resolve_mount(mount, state.expand)
        if spec.type == "secret":
            others.append(_secret(state, spec, mount.span))
        elif spec.type == "ssh":
            others.append(_ssh(state, spec, agents))
            agents += 1
        else:
            trees.append(_directory(state, spec, _tree(state, mount)))
    for step in (*trees, *others):
        if step.target == "/":
            raise PlanError(
                "RUN --mount: a mount cannot take the place of /",
                code="run/mount-target",
                hint="say where it is to be: target=/DIRECTORY",
                span=instruction.span,
            )
    return (*sorted(trees, key=lambda step: step.target), *others)


def _tree(state: StageState, mount: ast.Mount) -> Tree | Scratch | None:
    """Return what `from` names; None if there is none."""
    name = mount.option("from")
    if name is None or not name.text:
        return None
    return Scratch() if name.text == SCRATCH else state.trees[name.text]


def _directory(state: StageState, spec: MountSpec, tree: Tree | Scratch | None) -> StepMount:
    target = absolute(state, spec.target)
    if spec.type == "tmpfs":
        return TmpfsMount(target, spec.size)
    source = posixpath.normpath(posixpath.join("/", spec.source)).replace("//", "/")
    if spec.type == "bind":
        return BindMount(target, ContextTree() if tree is None else tree, source, spec.read_only)
    return CacheMount(
        target,
        # BuildKit does not complete the path with the working directory.
        spec.id or posixpath.normpath(spec.target),
        spec.sharing or "shared",
        None if isinstance(tree, Scratch) else tree,
        source,
        spec.read_only,
        spec.uid,
        spec.gid,
        spec.mode,
    )


def _secret(state: StageState, spec: MountSpec, span: Span) -> SecretMount:
    name = spec.id or spec.source or posixpath.basename(spec.target)
    if not name:
        raise PlanError(
            "RUN --mount=type=secret: the secret has no id",
            code="run/secret",
            hint="write id=NAME; --secret id=NAME,src=FILE gives it",
            span=span,
        )
    target = absolute(state, spec.target) if spec.target else ""
    if not target and not spec.env:
        target = f"{SECRETS}/{posixpath.basename(name)}"
    mode = 0o400 if spec.mode is None else spec.mode
    return SecretMount(target, name, spec.env, spec.required, spec.uid or 0, spec.gid or 0, mode)


def _ssh(state: StageState, spec: MountSpec, number: int) -> SshMount:
    target = absolute(state, spec.target) if spec.target else f"{AGENTS}{number}"
    mode = 0o600 if spec.mode is None else spec.mode
    name = spec.id or spec.source or "default"
    return SshMount(target, name, spec.required, spec.uid or 0, spec.gid or 0, mode)
