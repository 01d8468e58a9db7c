"""Go's two pattern languages: filepath.Match for COPY's sources, moby's patternmatcher for ignore files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from posixpath import normpath

_WILDCARD = re.compile(r"[*?[]")
_ESCAPED = re.compile(r"\\.", re.DOTALL)


def has_wildcard(pattern: str) -> bool:
    """Return whether `pattern` is more than a plain name. As in BuildKit, `\\` alone makes no pattern: a file
    may have one in its name."""
    return _WILDCARD.search(_ESCAPED.sub("", pattern)) is not None


@lru_cache(maxsize=1024)
def glob(pattern: str) -> re.Pattern[str]:
    """Compile one path component of filepath.Match (https://pkg.go.dev/path/filepath#Match). `**` is `*`
    here.

    Raises ValueError where Go returns ErrBadPattern.
    """
    out: list[str] = [""]
    i = 0
    while i < len(pattern):
        if pattern[i] == "*":
            # Stars in a row are one.
            if not pattern.startswith("**", i):
                out.append("")
            i += 1
            continue
        i, piece = _single(pattern, i)
        out[-1] += f"(?!/){piece}" if piece[0] == "[" else piece
    return re.compile(_starred(out) + r"\Z", re.DOTALL)


def _starred(pieces: list[str]) -> str:
    """Return `pieces`, none of which matches a slash, with a star between each two of them.

    Each but the last is taken at the first place where it fits, which is as good as any: `re` is kept from
    trying every way to part a name among the stars, of which there are exponentially many.
    """
    first, *inner = pieces
    if not inner:
        return first
    return first + "".join(f"(?>[^/]*?{piece})" for piece in inner[:-1]) + "[^/]*" + inner[-1]


def _single(pattern: str, i: int) -> tuple[int, str]:
    """Translate what stands at `i` for one character; return the index after it and the regular expression.

    Raises ValueError where Go returns ErrBadPattern.
    """
    char = pattern[i]
    if char == "?":
        return i + 1, "[^/]"
    if char == "[":
        i, piece = _bracket(pattern, i)
        return i + 1, piece
    if char == "\\":
        i += 1
        if i == len(pattern):
            raise ValueError(f"trailing backslash in {pattern!r}")
    return i + 1, re.escape(pattern[i])


def _bracket(pattern: str, start: int) -> tuple[int, str]:
    """Translate the class that begins at `start`; return the index of its `]` and the regular expression."""
    i = start + 1
    negated = pattern.startswith("^", i)
    i += negated
    ranges: list[str] = []
    while True:
        if i >= len(pattern):
            raise ValueError("unclosed [")
        if pattern[i] == "]" and ranges:
            break
        i, low = _bracket_char(pattern, i)
        high = low
        if pattern.startswith("-", i):
            i, high = _bracket_char(pattern, i + 1)
        if low > high:
            # Go accepts an empty range, which matches nothing; `re` would refuse it.
            ranges.append("")
        else:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    body = "".join(ranges)
    if not body:
        return i, "." if negated else "(?!)"
    return i, f"[{'^' if negated else ''}{body}]"


def _bracket_char(pattern: str, i: int) -> tuple[int, str]:
    if i >= len(pattern) or pattern[i] in "-]":
        raise ValueError("bad range")
    if pattern[i] == "\\":
        i += 1
        if i >= len(pattern):
            raise ValueError("trailing backslash")
    return i + 1, pattern[i]


_SPECIAL = re.compile(r"[*?\\[\]]")


@dataclass(frozen=True, slots=True)
class _Rule:
    match: Callable[[str], object]
    excluded: bool


class IgnoreRules:
    """The patterns of an ignore file, or of `--exclude`; the last one that matches decides
    (moby/patternmatcher).
    """

    __slots__ = ("_rules", "has_exceptions", "source")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.source = tuple(patterns)
        self._rules = tuple(rule for rule in map(_compile, self.source) if rule is not None)
        self.has_exceptions = any(not rule.excluded for rule in self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def match(self, path: str, parent: tuple[bool, ...]) -> tuple[bool, tuple[bool, ...]]:
        """Return whether `path` is ignored, and what to hand in as `parent` for its children.

        `parent` tells for each rule whether it matched the directory that `path` is in, or one above; () at
        the top.
        """
        matched = tuple(
            (inherited or bool(rule.match(path)))
            for rule, inherited in zip(self._rules, parent or (False,) * len(self._rules), strict=True)
        )
        ignored = False
        for rule, hit in zip(self._rules, matched, strict=True):
            if hit:
                ignored = rule.excluded
        return ignored, matched

    def ignores(self, path: str) -> bool:
        """Return whether `path`, given alone, is ignored by itself or through a directory above it."""
        state: tuple[bool, ...] = ()
        ignored = False
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            ignored, state = self.match("/".join(parts[:depth]), state)
        return ignored


def read_ignore_file(text: str) -> IgnoreRules:
    """Return the rules of an ignore file's text: BOM, CRLF, comments and blank lines are dropped."""
    lines = text.removeprefix("\ufeff").split("\n")
    return IgnoreRules(line for line in (raw.rstrip("\r") for raw in lines) if not line.startswith("#"))


def _compile(pattern: str) -> _Rule | None:
    pattern = pattern.strip()
    excluded = True
    if pattern.startswith("!"):
        excluded = False
        pattern = pattern[1:].strip()
        if not pattern:
            raise ValueError("a ! with no pattern behind it")
    if not pattern:
        return None
    pattern = normpath(pattern)
    if pattern.startswith("//"):
        pattern = pattern[1:]
    if len(pattern) > 1:
        pattern = pattern.removeprefix("/")
    return _Rule(_matcher(pattern), excluded)


def _matcher(pattern: str) -> Callable[[str], object]:
    """Return what tells whether a path matches, as moby's patternmatcher does: `**` spans directories, and a
    class may match a slash.

    Raises ValueError where filepath.Match returns ErrBadPattern. As with Go's regular expressions, and unlike
    with Python's, no pattern takes exponential time: an ignore file may come from anybody.
    """
    rest = pattern[2:]
    if pattern.startswith("**") and rest and not _SPECIAL.search(rest):
        # `**.log` is every path that ends so. With a wildcard in the rest, `**` stands for directories only.
        regex = f".*{re.escape(rest)}" if rest[0] != "/" else f"(?:.*/)?{re.escape(rest[1:])}"
    else:
        items = _items(pattern)
        if _is_regular(items):
            regex = _regular(items)
        elif sum(item in _VARIABLE for item in items) > 2:
            return _Automaton(items).match
        else:
            regex = "".join(_VARIABLE.get(item, item) for item in items)
    return re.compile(regex + r"\Z", re.DOTALL).match


_STAR, _DIRECTORIES, _REST = "*", "**/", "**"
"""Items of a pattern, besides regular expressions of one character: any name or part of one; any directories,
or none; anything."""
_VARIABLE = {_STAR: "[^/]*", _DIRECTORIES: "(?:.*/)?", _REST: ".*"}


def _items(pattern: str) -> list[str]:
    out: list[str] = []
    i, end = 0, len(pattern)
    while i < end:
        if pattern.startswith("**", i):
            i += 2
            i += pattern.startswith("/", i)
            item = _DIRECTORIES if i < end else _REST
        elif pattern[i] == "*":
            i += 1
            item = _STAR
        else:
            i, item = _single(pattern, i)
        if item not in (_STAR, _DIRECTORIES) or out[-1:] != [item]:
            out.append(item)
    return out


def _is_regular(items: list[str]) -> bool:
    """Whether each `**` begins at the start of a name, and no class matches a slash: then where a name begins
    and ends is never in doubt."""
    for before, item in zip(["/", *items], items, strict=False):
        if item == _DIRECTORIES and before != "/":
            return False
        if item[0] == "[" and item != "[^/]" and re.fullmatch(item, "/"):
            return False
    return True


def _regular(items: list[str]) -> str:
    """Return the regular expression of a regular pattern: what stands between two `**` is taken at the first
    place where it fits, which is as good as any (see `_starred`)."""
    segments: list[list[list[str]]] = [[[""]]]
    for item in items:
        if item == _DIRECTORIES:
            segments.append([[""]])
        elif item == "/":
            segments[-1].append([""])
        elif item == _STAR:
            segments[-1][-1].append("")
        else:
            segments[-1][-1][-1] += _VARIABLE.get(item, item)
    first, *inner = ["/".join(map(_starred, names)) for names in segments]
    if not inner:
        return first
    return first + "".join(f"(?>(?:[^/]*/)*?{each})" for each in inner[:-1]) + "(?:.*/)?" + inner[-1]


class _Automaton:
    """Matches a pattern by following all ways at once: slower than `re` with a usual pattern, but as fast
    with any.
    """

    def __init__(self, items: list[str]) -> None:
        self._items = items
        self._singles = {item: re.compile(item, re.DOTALL) for item in items if item not in _VARIABLE}

    def match(self, path: str) -> bool:
        """Return whether the whole of `path` matches."""
        # A state is the index of the item that is due; a negative one, ~index: within the directories of a
        # `**`.
        states = self._with_skipped({0})
        for char in path:
            states = self._with_skipped({after for state in states for after in self._after(state, char)})
        return len(self._items) in states

    def _after(self, state: int, char: str) -> tuple[int, ...]:
        index = state if state >= 0 else ~state
        if index == len(self._items):
            return ()
        item = self._items[index]
        if item == _DIRECTORIES:
            return (~index, index + 1) if char == "/" else (~index,)
        if item == _REST or (item == _STAR and char != "/"):
            return (index,)
        if item == _STAR or self._singles[item].match(char) is None:
            return ()
        return (index + 1,)

    def _with_skipped(self, states: set[int]) -> set[int]:
        """Return `states`, and those that are reached by letting what may be empty be empty."""
        pending = list(states)
        while pending:
            state = pending.pop()
            if 0 <= state < len(self._items) and self._items[state] in _VARIABLE and state + 1 not in states:
                states.add(state + 1)
                pending.append(state + 1)
        return states
