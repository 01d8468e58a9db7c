"""A case: a directory with a recipe, and what is known to come out different.

Dockerfile              the recipe
Dockerfile.PEER         what PEER builds in its place, where it lacks what the recipe uses;
Dockerfile.peers: all of them Dockerfile.dockerignore lies beside the recipe
context/                the context; its files are 0644, or 0755 if they are executable, from 2001-09-09
context.sh              run in the context: modes, links, devices and times that git does not keep
case.toml               arguments, target: what is built; options: what every builder is given, paths as of
the
                        case's directory; refused: a part of pybuild's error, and the peer
must refuse, too;
                        [[differs]]: a known difference from `peers`, with its reason
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.differential.compare import Difference

CASES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases")
OLD = 1_000_000_000


@dataclass(frozen=True)
class Known:
    """A difference that is expected. `where` is a pattern; each one must match some difference."""

    where: str
    aspect: str
    ours: str
    theirs: str
    reason: str

    def matches(self, difference: Difference) -> bool:
        return (
            fnmatchcase(difference.where, self.where)
            and self.aspect == difference.aspect
            and fnmatchcase(difference.ours, self.ours)
            and fnmatchcase(difference.theirs, self.theirs)
        )


EVERYWHERE = {
    "buildah": (Known("/run", "directory mtime", "1500000000", "now", "each RUN has a /run/.containerenv"),),
    "buildkit": (
        Known("*", "directory mtime", "1*", "now", "BuildKit keeps times of directories since 0.11"),
    ),
}
"""What may differ in any case."""


@dataclass(frozen=True)
class Case:
    name: str
    refused: str = ""
    target: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    differs: tuple[dict[str, Any], ...] = ()

    @property
    def directory(self) -> str:
        return os.path.join(CASES, self.name)

    def known(self, peer: str) -> list[Known]:
        """Return the differences from `peer` that are expected."""
        return [
            Known(each["where"], each["aspect"], each["ours"], each["theirs"], each["reason"])
            for each in self.differs
            if peer in each["peers"]
        ]

    def prepare(self, directory: str) -> None:
        """Make `directory` with the recipe and, in context/, what it copies."""
        os.mkdir(directory, 0o755)
        for name in os.listdir(self.directory):
            if name.startswith("Dockerfile"):
                shutil.copyfile(f"{self.directory}/{name}", f"{directory}/{name}")
        context = f"{directory}/context"
        os.mkdir(context, 0o755)
        if os.path.isdir(f"{self.directory}/context"):
            shutil.copytree(f"{self.directory}/context", context, symlinks=True, dirs_exist_ok=True)
        _normalise(context)
        script = f"{self.directory}/context.sh"
        if os.path.exists(script):
            subprocess.run(["sh", "-eu", script], cwd=context, check=True, umask=0o022)
        _age(context)

    def recipe(self, peer: str) -> str:
        """Return the name of the recipe that `peer` builds."""
        for name in (f"Dockerfile.{peer}", "Dockerfile.peers"):
            if os.path.exists(f"{self.directory}/{name}"):
                return name
        return "Dockerfile"


def load() -> list[Case]:
    """Read all cases."""
    return [_load(name) for name in sorted(os.listdir(CASES))]


def _load(name: str) -> Case:
    try:
        with open(f"{CASES}/{name}/case.toml", "rb") as file:
            settings = tomllib.load(file)
    except FileNotFoundError:
        return Case(name)
    return Case(name, differs=tuple(settings.pop("differs", ())), **settings)


def _normalise(context: str) -> None:
    """Give what git has checked out modes that do not depend on a umask."""
    for parent, directories, files in os.walk(context):
        for name in directories:
            os.chmod(f"{parent}/{name}", 0o755)
        for name in files:
            path = f"{parent}/{name}"
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.stat(path).st_mode & 0o100 else 0o644)


def _age(context: str) -> None:
    """Make everything old that context.sh has given no time of its own (before 2020)."""
    for parent, _, _ in os.walk(context, topdown=False):
        for path in (*(f"{parent}/{name}" for name in os.listdir(parent)), parent):
            if os.lstat(path).st_mtime > 1_577_836_800:
                os.utime(path, (OLD, OLD), follow_symlinks=False)
