"""A stage under planning: what its instructions have made of the config so far, and the steps that they
need.
"""

from __future__ import annotations

import posixpath
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from builder.scope import DEFAULT_PATH, Scope, split_variable
from builder.steps import Asked, ConfigStep, Step, Tree
from cache.oci.platform import Platform
from cache.oci.spec import ContainerConfig, ImageConfig
from grammar import ast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(slots=True)
class StageState:
    """A stage as of one of its lines. Mutable, private to planning."""

    name: str
    image: ImageConfig
    config: ContainerConfig
    scope: Scope
    globals: Scope
    arguments: Mapping[str, str]
    escape: str
    declared: dict[str, None] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    trees: Mapping[str, Tree] = field(default_factory=dict)
    """What each `from` of a COPY or a mount in this stage names."""
    asked: Asked = field(default_factory=Asked)
    cmd_is_ours: bool = False
    given: Mapping[str, str] = field(default_factory=dict)
    """Within a fragment: the values that its INCLUDE gives to its ARGs."""
    enclosing: tuple[Scope, ...] = ()
    """Within a fragment: what those who include it see."""

    @classmethod
    def start(
        cls, name: str, image: ImageConfig, globals_: Scope, arguments: Mapping[str, str], escape: str
    ) -> StageState:
        """Return the state right after FROM an image."""
        environment = dict(split_variable(pair) for pair in image.config.env)
        env = image.config.env
        if "PATH" not in environment:
            environment["PATH"] = DEFAULT_PATH
            env = (*env, f"PATH={DEFAULT_PATH}")
        config = replace(image.config, on_build=(), env=env)
        return cls(name, image, config, Scope(environment), globals_, arguments, escape)

    def child(self, name: str) -> StageState:
        """Return the state right after FROM this stage: ENV, ARG values, SHELL, USER, WORKDIR and labels
        come along.
        """
        return StageState(
            name,
            self.image,
            replace(self.config, on_build=()),
            Scope(self.scope.values),
            self.globals,
            self.arguments,
            self.escape,
            dict(self.declared),
        )

    @property
    def used(self) -> set[str]:
        return self.scope.used

    @property
    def shell(self) -> tuple[str, ...]:
        return self.config.shell or DEFAULT_SHELL

    @property
    def workdir(self) -> str:
        return self.config.working_dir or "/"

    @contextmanager
    def fragment(self, given: Mapping[str, str], escape: str) -> Iterator[None]:
        """Enter a fragment: it sees the ENV of this point, and of ARGs its own alone, which are gone
        afterwards.
        """
        outside = (self.scope, self.declared, self.escape, self.given, self.enclosing)
        self.enclosing = (*self.enclosing, self.scope)
        inside = Scope(dict(split_variable(pair) for pair in self.config.env))
        inside.used = self.scope.used
        self.scope, self.declared, self.escape, self.given = inside, {}, escape, given
        try:
            yield
        finally:
            self.scope, self.declared, self.escape, self.given, self.enclosing = outside

    def expand(self, word: ast.Word) -> str:
        return self.scope.expand(word, self.escape)

    def set_config(self, instruction: ast.Instruction, created_by: str, **changes: object) -> None:
        """Change the config, and note it in the history."""
        self.config = replace(self.config, **changes)  # type: ignore[arg-type]
        self.steps.append(ConfigStep(instruction.span, line_of(instruction), created_by))


def initial_config(platform: Platform) -> ImageConfig:
    """Return the config of FROM scratch: what BuildKit starts from."""
    config = ContainerConfig(env=(f"PATH={DEFAULT_PATH}",), working_dir="/")
    return ImageConfig(platform.architecture, platform.os, platform.variant, config=config)


_WIDEST = 500
"""Characters of an instruction that a screen gets."""


def line_of(instruction: ast.Instruction) -> str:
    """Return the one line that stands for the instruction on a screen."""
    first = instruction.text.split("\n", 1)[0]
    command = getattr(instruction, "command", None)
    if isinstance(command, ast.Command) and command.alone:
        # What the document does says more than its delimiter.
        lines = (line.strip() for line in command.heredocs[0].content.split("\n"))
        told = [line for line in lines if line and not line.startswith(("#", "set -"))]
        first = f"{first} {told[0] if told else ''}{' …' if len(told) > 1 else ''}"
    return f"{instruction.keyword} {first if len(first) <= _WIDEST else first[:_WIDEST] + '…'}"


def absolute(state: StageState, path: str) -> str:
    """Return `path` as seen from the stage's working directory."""
    # normpath keeps two slashes at the beginning.
    return "/" + posixpath.normpath(posixpath.join("/", state.workdir, path)).lstrip("/")
