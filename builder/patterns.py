"""Go's two pattern languages: filepath.Match for COPY's sources, moby's patternmatcher for ignore files."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
    out: list[str] = []
    i = 0
    while i < len(pattern):
        char = pattern[i]
        if char == "*":
            # Stars in a row are one, which keeps `re` from trying every way to part a name among them.
            if not pattern.startswith("**", i):
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "\\":
            i += 1
            if i == len(pattern):
                raise ValueError("trailing backslash")
            out.append(re.escape(pattern[i]))
        elif char == "[":
            i, piece = _bracket(pattern, i)
            out.append("(?!/)" + piece)
        else:
            out.append(re.escape(char))
        i += 1
    return re.compile("".join(out) + r"\Z", re.DOTALL)


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
    regex: re.Pattern[str]
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
            (inherited or rule.regex.match(path) is not None)
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
    return _Rule(re.compile(_ignore_regex(pattern), re.DOTALL), excluded)


def _ignore_regex(pattern: str) -> str:
    """Translate as moby's patternmatcher does: `**` spans directories, and a class may match a slash.

    Raises ValueError where filepath.Match returns ErrBadPattern.
    """
    rest = pattern[2:]
    if pattern.startswith("**") and rest and not _SPECIAL.search(rest):
        # `**.log` is every path that ends so. With a wildcard in the rest, `**` stands for directories only.
        return f".*{re.escape(rest)}\\Z" if rest[0] != "/" else f"(?:.*/)?{re.escape(rest[1:])}\\Z"
    out: list[str] = []
    i, end = 0, len(pattern)
    while i < end:
        char = pattern[i]
        if char == "*" and pattern.startswith("**", i):
            i += 2
            if pattern.startswith("/", i):
                i += 1
            out.append(".*" if i >= end else "(?:.*/)?")
            continue
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "\\":
            i += 1
            if i == end:
                raise ValueError(f"trailing backslash in {pattern!r}")
            out.append(re.escape(pattern[i]))
        elif char == "[":
            i, piece = _bracket(pattern, i)
            out.append(piece)
        else:
            out.append(re.escape(char))
        i += 1
    return "".join(out) + r"\Z"
