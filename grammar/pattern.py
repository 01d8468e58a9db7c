r"""The patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and literal text; `\` before `*`, `?`, `\`,
`}` and `/`.

As in BuildKit there are no bracket expressions, and `*` and `?` do not match a line end. A pattern is matched
piece by piece between its stars, each piece at its first (or last) place: no backtracking, so no pattern
takes exponential time.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import Pattern


class PatternError(ValueError):
    """The pattern escapes a character that needs no escape."""


def trim_prefix(pattern: str, value: str, *, longest: bool) -> str:
    """Return `value` without its shortest or longest beginning that `pattern` matches."""
    end = _Glob(_parse(pattern)).match(value, 0, longest=longest)
    return value if end < 0 else value[end:]


def trim_suffix(pattern: str, value: str, *, longest: bool) -> str:
    """Return `value` without its shortest or longest end that `pattern` matches."""
    end = _Glob(_parse(pattern)[::-1]).match(value[::-1], 0, longest=longest)
    return value if end < 0 else value[: len(value) - end]


def replace(pattern: str, value: str, text: str, *, every: bool, limit: int) -> str:
    """Return `value` with the first match of `pattern`, or every one, replaced by `text`. The leftmost,
    longest match counts.

    Raises PatternError if the result is longer than `limit` characters.
    """
    glob = _Glob(_parse(pattern))
    out: list[str] = []
    size = done = at = 0
    last = -1
    while at <= len(value):
        start, end = glob.search(value, at)
        if start < 0:
            break
        # Like Go's ReplaceAll: an empty match right after a match is none.
        if start != end or start != last:
            out += (value[done:start], text)
            size += start - done + len(text)
            if size > limit:
                raise PatternError("the result is too long")
            done = last = end
            if not every:
                break
        at = end if end > at else at + 1
    out.append(value[done:])
    return "".join(out)


_STAR = None
_ANY = ""


def _parse(pattern: str) -> list[str | None]:
    """Return the pattern's items: a character, _ANY for `?`, _STAR for `*`."""
    items: list[str | None] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "\\":
            char = pattern[at : at + 1]
            at += 1
            if not char or char not in "*?\\}/":
                raise PatternError(f"\\{char} is no escape" if char else "a \\ at the end")
            items.append(char)
        elif char == "*":
            items.append(_STAR)
        else:
            items.append(_ANY if char == "?" else char)
    return items


class _Glob:
    """A pattern as the pieces between its stars."""

    def __init__(self, items: list[str | None]) -> None:
        import re

        pieces: list[list[str]] = [[]]
        for item in items:
            if item is _STAR:
                pieces.append([])
            else:
                pieces[-1].append(item)
        # Pieces that are empty, but for the first and the last, stand between two stars that are as good as
        # one.
        inner = [piece for piece in pieces[1:-1] if piece]
        ordered = [pieces[0], *inner, *pieces[1:][-1:]]
        self.sizes = [len(piece) for piece in ordered]
        self.regexes: list[Pattern[str]] = [
            re.compile("".join("." if char == _ANY else re.escape(char) for char in piece))
            for piece in ordered
        ]

    def match(self, value: str, start: int, *, longest: bool) -> int:
        """Return where the shortest or longest match that begins at `start` ends; -1: none does."""
        first = self.regexes[0].match(value, start)
        if first is None:
            return -1
        end = before = first.end()
        for regex, size in zip(self.regexes[1:], self.sizes[1:], strict=True):
            found = regex.search(value, end, _line_end(value, end) + size)
            if found is None:
                return -1
            before, end = end, found.end()
        return self._last(value, before) if longest and len(self.regexes) > 1 else end

    def _last(self, value: str, at: int) -> int:
        """Return the end of the last place that the last piece fits in behind a star at `at`: there is
        one."""
        size = self.sizes[-1]
        start = min(len(value) - size, _line_end(value, at))
        while self.regexes[-1].match(value, start) is None:
            start -= 1
        return start + size

    def search(self, value: str, at: int) -> tuple[int, int]:
        """Return the start and end of the leftmost match from `at` on, the longest there; (-1, -1): there
        is none."""
        while at <= len(value):
            first = self.regexes[0].search(value, at)
            if first is None:
                break
            end = self.match(value, first.start(), longest=True)
            if end >= 0:
                return first.start(), end
            # What does not fit behind this place fits behind no later one whose star begins on the same line.
            at = max(first.start(), _line_end(value, first.end()) - self.sizes[0]) + 1
        return -1, -1


def _line_end(value: str, at: int) -> int:
    """Return where the line that `at` is in ends: a star reaches no further."""
    end = value.find("\n", at)
    return len(value) if end < 0 else end
