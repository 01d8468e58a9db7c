"""PACKAGES under planning: from words to names and versions."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.errors import PlanError
from builder.packagescripts import MANAGERS, Package, same_name
from builder.scope import PROXY_ARGUMENTS
from builder.stagestate import StageState, line_of
from builder.steps import PackagesStep

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grammar import ast
    from grammar.source import Span

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~^_!*-]*")


def packages(state: StageState, instruction: ast.Packages) -> None:
    """PACKAGES. Raises PlanError, RecipeError."""
    manager = instruction.manager
    found: dict[str, Package] = {}
    for word in instruction.packages:
        for text in state.scope.expand_all((word,), state.escape):
            package = parse_package(manager, text, word.span)
            name = same_name(manager, package[0])
            if found.setdefault(name, package) != package:
                raise PlanError(
                    f"PACKAGES {manager}: {name} is wanted twice, in different ways",
                    code="packages/twice",
                    span=word.span,
                )
    if not found:
        raise PlanError(
            f"PACKAGES {manager}: no package is named, once the variables are filled in",
            code="packages/none",
            span=instruction.span,
        )
    # Their order means nothing to a package manager: nor does it to the step's key.
    wanted = tuple(sorted(found.values()))
    asked = state.asked
    state.steps.append(
        PackagesStep(
            span=instruction.span,
            text=line_of(instruction),
            created_by=f"PACKAGES {manager} {shown(wanted)} # pybuild",
            manager=manager,
            packages=wanted,
            env=tuple(state.scope.values.items()),
            network=asked.network,
            proxies=tuple((k, v) for k, v in state.arguments.items() if k in PROXY_ARGUMENTS),
            extra_hosts=asked.extra_hosts,
            rlimits=asked.rlimits,
            shm_size=asked.shm_size,
            no_new_privileges=asked.no_new_privileges,
        )
    )


def parse_package(manager: str, text: str, span: Span | None = None) -> Package:
    """Return the name and the version ("" if there is none) of `name` or `name=version`; for pip
    `name==version` too. Raises PlanError (packages/name).
    """
    name, equals, version = text.partition("=")
    if manager == "pip":
        version = version.removeprefix("=")
    if not MANAGERS[manager].name.fullmatch(name):
        raise _wrong(manager, text, "that is no package's name", span)
    if equals and not _VERSION.fullmatch(version):
        raise _wrong(manager, text, "what stands behind = is no version", span)
    return name, version


def _wrong(manager: str, text: str, what: str, span: Span | None) -> PlanError:
    return PlanError(
        f"PACKAGES {manager} {text}: {what}",
        code="packages/name",
        hint=f"write NAME or NAME=VERSION; for all else there is RUN {arguments_of(manager)}",
        span=span,
    )


def arguments_of(manager: str) -> str:
    """Return the command line that installs something with a package manager, as people type it."""
    return {
        "apt": "apt-get install",
        "apk": "apk add",
        "dnf": "dnf install",
        "pip": "pip install",
        "npm": "npm install",
    }[manager]


def shown(packages: Iterable[Package]) -> str:
    """Return packages as PACKAGES names them."""
    return " ".join(f"{name}={version}" if version else name for name, version in packages)


def line_of_step(step: PackagesStep) -> str:
    """Return what a lock file calls a PACKAGES: the package manager, and what it asks for, sorted."""
    return f"{step.manager} {shown(step.packages)}"


def with_pins(step: PackagesStep, pins: Iterable[str]) -> PackagesStep:
    """Return `step` with all that it has to install, as a lock file has it: `name=version`. Raises PlanError
    (packages/name) for what is no name and version: it becomes part of a command line.
    """
    found: list[Package] = []
    for pin in pins:
        name, _, version = pin.partition("=")
        known = MANAGERS[step.manager].name.fullmatch(name)
        if not known or not version or not all(map(_VERSION.fullmatch, version.split(" "))):
            raise PlanError(
                f"PACKAGES {step.manager}: {pin!r} in the lock file is no name and version",
                code="packages/name",
                span=step.span,
            )
        found.append((name, version))
    return replace(step, pins=tuple(sorted(found)))
