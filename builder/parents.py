"""COPY --parents: what a source stands for that keeps its directories.

As in BuildKit (dockerfile2llb's dispatchCopy, fsutil/copy with include patterns): /./ parts a source into
where the copy starts from, a path or a pattern of Go's filepath.Match, and a pattern as in an ignore file
for what is taken, where `**` spans directories. Directories on the way to it are made as they are in the
source.

Two things are done here that BuildKit leaves undone. It takes nothing, and says so to nobody, where a
directory on the way is a symbolic link: here that is followed, up to the first wildcard, and becomes a
directory. And it takes all where the source is the start itself (`.` or `dir/./`) rather than nothing.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass

from builder.patterns import IgnoreRules, has_wildcard
from builder.sieve import Sieve
from builder.tree import Entry, Selection, Tree, bad_pattern, clean


def select_with_parents(tree: Tree, source: str, exclude: IgnoreRules) -> tuple[Selection, ...]:
    """Return what `source` stands for in `tree`; for each directory that it starts from one selection, which
    may have nothing in it. Raises PlanError if a path without wildcards is not there."""
    start, pivot, rest = source.partition("/./")
    if not pivot:
        start, rest = "", source
    names, parts = clean(rest), clean(start)
    if not any(has_wildcard(part) for part in parts):
        base = tree.resolve("/".join(parts))
        if base is None or not stat.S_ISDIR(base.mode):
            raise tree.missing(source, ignored=False)
        required = not any(has_wildcard(name) for name in names)
        return (_Parents(tree, source, base, names, exclude, required).select(),)
    rules = tree.rules
    paths = (p for p in tree.matches(source, parts) if rules.has_exceptions or not rules.ignores(p))
    # What is no directory has nothing below it.
    bases = [base for base in map(tree.resolve, paths) if base is not None and stat.S_ISDIR(base.mode)]
    return tuple(_Parents(tree, source, base, names, exclude, required=False).select() for base in bases)


@dataclass(frozen=True, slots=True)
class _Parents:
    """One start. `required`: what `names` name has to be there."""

    tree: Tree
    source: str
    base: Entry
    names: list[str]
    exclude: IgnoreRules
    required: bool

    def select(self) -> Selection:
        names = self.names
        plain = next((depth for depth, name in enumerate(names) if has_wildcard(name)), None)
        above = self._above(names[: len(names) - 1 if plain is None else plain])
        if above is None:
            return self._nothing(missing=True)
        lead, bottom = above[-1] if above else ("", self.base)
        # What a directory is called must not be ignored either, where a symbolic link leads to it.
        if lead and not self.tree.rules.has_exceptions and self._is_ignored(_join(self.base.path, lead)):
            return self._nothing(missing=True, ignored=True)
        wanted = "" if plain is None else "/".join(names[plain:])
        try:
            sieve = Sieve(self.tree.rules, bottom.path, exclude=self.exclude, lead=lead, wanted=wanted)
        except ValueError as error:
            raise bad_pattern(self.source, error) from None
        if plain is None and names:
            return self._named(bottom, sieve, above, lead)
        found, implied = self.tree.walk(bottom.path, sieve)
        if not found:
            return self._nothing()
        return Selection(self.source, self.base.path, (bottom, *found), implied, above, lead)

    def _above(self, names: list[str]) -> tuple[tuple[str, Entry], ...] | None:
        """Return the directories on the way: path below the start, and what that leads to. None if one is not
        there."""
        found: list[tuple[str, Entry]] = []
        for depth in range(1, len(names) + 1):
            path = "/".join(names[:depth])
            entry = self.tree.resolve(_join(self.base.path, path))
            if entry is None or not stat.S_ISDIR(entry.mode):
                return None
            found.append((path, entry))
        return tuple(found)

    def _named(
        self, bottom: Entry, sieve: Sieve, above: tuple[tuple[str, Entry], ...], lead: str
    ) -> Selection:
        """Return the last name of a path without wildcards, and what is below it. A symbolic link stays
        one.
        """
        path = _join(bottom.path, self.names[-1])
        entry = self.tree.lstat(path)
        if entry is None:
            return self._nothing(missing=True)
        left_out, state = sieve.match(path, sieve.start)
        found: tuple[Entry, ...] = ()
        implied: frozenset[str] = frozenset()
        if stat.S_ISDIR(entry.mode) and (not left_out or sieve.reaches(path, state)):
            found, implied = self.tree.walk(path, sieve, state)
        if left_out and not found:
            ignored = self._is_ignored(path)
            return self._nothing(missing=ignored, ignored=ignored)
        if left_out and sieve.implies(path, state):
            implied |= {path}
        return Selection(self.source, self.base.path, (bottom, entry, *found), implied, above, lead)

    def _is_ignored(self, path: str) -> bool:
        return self.tree.rules.ignores(path)

    def _nothing(self, *, missing: bool = False, ignored: bool = False) -> Selection:
        """Return a selection with nothing in it. Raises PlanError where there had to be something: what is
        left out by --exclude need not be."""
        if missing and self.required:
            raise self.tree.missing(self.source, ignored)
        return Selection(self.source, self.base.path, (self.base,))


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
