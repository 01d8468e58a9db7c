"""What a hostile case is: who tries what, how the scene is laid, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.escape_fixtures.place import Place
from tests.escape_fixtures.ways import Way

BUILT = ""
"""In place of an error's code: the build succeeds."""

Scene = Callable[[Place], None]


def nothing(place: Place) -> None:
    """Lay no scene."""


@dataclass(frozen=True, slots=True)
class Case:
    """One try. In `recipes`, `words` and `commands`, OUTSIDE stands for the directory that nothing may touch
    or read, PLACE for the one around it.

    `tried` and `instead` are the row of docs/security.md. Each of `recipes` is built by itself and ends with
    `code`, an error's (or one of several), BUILT or None where either will do; an error's text, or what a
    step wrote, has `says` in it. After that each of `commands` runs, however it ends; `stdin` is a file that
    they read. `otherwise`: the codes for a `Way.who` or `Way.snapshotter` that has others. What holds for
    every case is in the test: see tests/builder/test_escapes.py. `heavy`: run by `make escapes` alone.
    """

    name: str
    tried: str
    instead: str
    recipes: tuple[str, ...] = ()
    scene: Scene = nothing
    words: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    code: str | tuple[str, ...] | None = BUILT
    otherwise: Mapping[str, str | tuple[str, ...] | None] = field(default_factory=dict)
    says: str = ""
    stdin: str = ""
    terminal: bool = False
    heavy: bool = False

    def codes_of(self, way: Way) -> tuple[str, ...]:
        """Return the codes that it may end with; empty for any."""
        code = self.otherwise.get(way.who, self.otherwise.get(way.snapshotter, self.code))
        return code if isinstance(code, tuple) else () if code is None else (code,)


@dataclass(frozen=True, slots=True)
class Group:
    """Cases of a kind, under a heading of docs/security.md."""

    title: str
    cases: tuple[Case, ...] = field(default=())
