"""What of a directory a COPY takes: not what the ignore rules hide or --exclude names, and with --parents
only what the wildcards of its source match.
"""

from __future__ import annotations

import re

from builder.patterns import IgnoreRules, glob

State = tuple[bool, ...]
"""What has matched a directory or one above it: as of IgnoreRules.match, for each kind of rule in turn."""


class Sieve:
    """Ignore rules of a tree, and more, for a walk below one directory of it."""

    def __init__(
        self, rules: IgnoreRules, start: str, *, exclude: IgnoreRules, lead: str = "", wanted: str = ""
    ) -> None:
        """`start` is that directory. Paths for `exclude` begin with `lead`, which stands for `start` there.
        `wanted` is a pattern, relative to `start`; "" wants everything. Raises ValueError for a malformed
        one.
        """
        self._rules = rules
        self._exclude = exclude
        self._skip = len(start) + 1 if start else 0
        self._lead = f"{lead}/" if lead else ""
        # A ! would turn the pattern around.
        self._wanted = IgnoreRules(["\\" + wanted if wanted.startswith("!") else wanted])
        self._route = _route(wanted)
        above = state_of(rules, start)
        self._cut = len(above)
        self.start: State = (*above, *state_of(exclude, lead), not wanted)

    def match(self, path: str, parent: State) -> tuple[bool, State]:
        """Return whether `path` is left out by itself, and the state for what is below it. `parent` is the
        state of the directory that it is in, `self.start` at first."""
        cut, name = self._cut, path[self._skip :]
        ignored, hidden = self._rules.match(path, parent[:cut])
        excluded, named = self._exclude.match(self._lead + name, parent[cut:-1])
        wanted = parent[-1] or self._wanted.match(name, ())[0]
        return ignored or excluded or not wanted, (*hidden, *named, wanted)

    def reaches(self, path: str, state: State) -> bool:
        """Return whether something below the directory `path`, which is left out itself and has that state,
        may be taken."""
        ignored = self._rules.match(path, state[: self._cut])[0]
        if ignored and not self._rules.has_exceptions:
            return False
        if self._excludes(path, state) and not self._exclude.has_exceptions:
            return False
        return state[-1] or self._leads(path[self._skip :].split("/"))

    def implies(self, path: str, state: State) -> bool:
        """Return whether the directory `path`, which has that state, is taken for what is below it alone.
        What the ignore rules say does not count: whoever reads the context finds the directory there."""
        return not state[-1] or self._excludes(path, state)

    def _excludes(self, path: str, state: State) -> bool:
        return self._exclude.match(self._lead + path[self._skip :], state[self._cut : -1])[0]

    def _leads(self, names: list[str]) -> bool:
        if self._route is None:
            return True
        steps, ends = self._route
        if ends and len(names) >= len(steps):
            return False
        return all(step.match(name) for step, name in zip(steps, names, strict=False))


def state_of(rules: IgnoreRules, path: str) -> State:
    """Return what to hand to `rules.match` for what is in the directory `path`, "" for the top."""
    state: State = (False,) * len(rules.match("", ())[1])
    parts = path.split("/") if path else []
    for depth in range(1, len(parts) + 1):
        _, state = rules.match("/".join(parts[:depth]), state)
    return state


def _route(wanted: str) -> tuple[list[re.Pattern[str]], bool] | None:
    """Return what the names of the directories that lead to a match have to match, and whether no match is
    deeper than that; None where any may lead to one.
    """
    names = wanted.split("/")
    # Of a pattern in which a class has a slash in it, this would not be true.
    if not wanted or ("[" in wanted and any(name.count("[") != name.count("]") for name in names)):
        return None
    fixed = next((depth for depth, name in enumerate(names) if "**" in name), len(names))
    return [glob(name) for name in names[:fixed]], fixed == len(names)
