"""What is built in a comparison: a workload writes a context that any builder of Dockerfiles can build."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Protocol

BASE = "bench-base"
"""The name under which each peer holds the base image: a shell and what it needs, see rootfs.py."""


class Workload(Protocol):
    """A build to be timed."""

    @property
    def name(self) -> str:
        """What the command line calls it."""

    @property
    def title(self) -> str:
        """What the report calls it."""

    @property
    def runs_steps(self) -> bool:
        """Whether each timed build is to run its steps.

        Then the build argument SALT differs from build to build, and each step uses it. Otherwise the same
        build is repeated, after one that is not timed.
        """

    @property
    def goal(self) -> str:
        """What pybuild means to reach, in words."""

    @property
    def recipe(self) -> str:
        """The recipe's name in the context."""

    @property
    def portable(self) -> bool:
        """Whether other builders can build it; pybuild alone does otherwise."""

    def write(self, context: str) -> None:
        """Write the recipe and all that it needs into the empty directory `context`."""


def _write(context: str, name: str, text: str) -> None:
    with open(os.path.join(context, name), "w", encoding="utf-8") as file:
        file.write(text)


def _salted(steps: int) -> str:
    lines = [f"RUN echo $SALT > /step-{number}\n" for number in range(steps)]
    return f"FROM {BASE}\nARG SALT=none\n" + "".join(lines)


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """A rebuild in which no step has anything to do: what is paid each time for having built already."""

    steps: int = 10
    name: str = "no-op"
    runs_steps: bool = False
    goal: str = "at most a quarter of buildah's time"
    recipe: str = "Dockerfile"
    portable: bool = True

    @property
    def title(self) -> str:
        return f"Rebuild of {self.steps} steps, nothing changed"

    def write(self, context: str) -> None:
        _write(context, "Dockerfile", _salted(self.steps - 1) + "COPY greeting.txt /\n")
        _write(context, "greeting.txt", "hello\n")


@dataclass(frozen=True, slots=True)
class TrivialSteps:
    """Steps that do next to nothing: what is paid for each step as such, sandbox, commit and record."""

    steps: int = 50
    name: str = "trivial"
    runs_steps: bool = True
    goal: str = "at most a tenth of buildah's time"
    recipe: str = "Dockerfile"
    portable: bool = True

    @property
    def title(self) -> str:
        return f"{self.steps} trivial RUN steps"

    def write(self, context: str) -> None:
        _write(context, "Dockerfile", _salted(self.steps))


@dataclass(frozen=True, slots=True)
class JavaAgain:
    """recipes/java.rec, built already. The first build, not timed, needs Debian's packages."""

    name: str = "java"
    title: str = "`recipes/java.rec` again, nothing changed"
    runs_steps: bool = False
    goal: str = "at most 4 times the floor"
    recipe: str = "java.rec"
    portable: bool = False

    def write(self, context: str) -> None:
        recipes = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "recipes")
        shutil.copytree(recipes, context, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)


WORKLOADS: tuple[Workload, ...] = (NothingToDo(), TrivialSteps(), JavaAgain())
