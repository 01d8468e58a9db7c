"""One instruction's lines, laid out anew.

The words of the instruction stay as they are, character by character. Between them are gaps: runs of blanks
that mean nothing, each to be written as one blank, or as a line break where there was one. A line that was
broken elsewhere (within a word, or within quotes) stays broken just there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from grammar.expand import SPACES
from grammar.lexer import COMMAND, KEYWORDS, Token
from grammar.node import Node
from grammar.shell import Scanner, ShellError, shell_gaps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from grammar.recover import Line
    from grammar.source import Span

INDENT = 4
WIDEST = 100
"""Columns of a line of a RUN on several lines, before its `&&` are put on lines of their own."""
_TAB = 4


class Gap(Node):
    """A run of blanks from `start` to `end` in the logical line. `text` is written in its place, or
    `before_break` and a line break. `chain`: it stands at a `&&` on the side where lines are broken."""

    start: int
    end: int
    text: str = " "
    before_break: str = " "
    chain: bool = False


class Layout:
    """Lays out one logical line."""

    def __init__(self, line: Line, escape: str, raw: list[str], *, posix: bool) -> None:
        """`raw` are the physical lines of the source. `posix`: its shells read runs of blanks as one."""
        self.line = line
        self.raw = raw
        self.logical = line.logical
        self.escape = escape
        self.posix = posix
        self.text = self.logical.text
        self.end = len(self.text.rstrip(SPACES))
        kept = bisect_left(self.logical.starts, self.end)
        self.pieces = self.logical.starts[: max(kept, 1)]
        """Where each physical line's part begins, without those that hold nothing but blanks at the end."""

    def lines(self) -> list[str]:
        """Return the physical lines, without those of heredoc bodies."""
        first, last = self.line.first - 1, self.line.bodies - 1
        empty = not self.raw[first].strip(SPACES).rstrip(self.escape).strip(SPACES)
        if empty or self.text[: self.end].endswith(self.escape):
            # It begins with an empty line that is continued, or ends in a lone escape character: rare enough
            # to be left alone.
            return [line.rstrip("\r") for line in self.raw[first:last]]
        gaps = self.gaps()
        text = self.upper()
        rows = self.rows(text, gaps, frozenset())
        if len(rows) > 1:
            long = [row for row in rows if len(row.shown) > WIDEST]
            forced = [
                gap.start for gap in gaps if gap.chain for row in long if row.start < gap.start < row.end
            ]
            rows = self.rows(text, gaps, frozenset(forced))
        out = [line for row in rows for line in (*row.comments, row.shown)]
        return out + self.comments(self.logical.numbers[len(self.pieces) - 1], last, "")

    def upper(self) -> str:
        """Return the text with its keywords in upper case."""
        text = self.text
        for at, token in enumerate(self.line.tokens):
            keyword = token.type in KEYWORDS and at < 2 and token.at >= 0 and isinstance(token.value, str)
            if keyword or token.type in ("AS", "NONE") or (token.type == "CMD" and at):
                start, end = self.place(token.span)
                text = text[:start] + text[start:end].upper() + text[end:]
        return text

    def place(self, span: Span) -> tuple[int, int]:
        """Return the offsets of a span in the logical line."""
        logical = self.logical
        first, last = logical.numbers.index(span.line), logical.numbers.index(span.end_line)
        return (
            logical.starts[first] + span.column - logical.columns[first],
            logical.starts[last] + span.end_column - logical.columns[last],
        )

    def gaps(self) -> list[Gap]:
        """Return the gaps between the words, in order."""
        keyword = self.logical.keyword
        tokens = [
            token
            for token in self.line.tokens
            if token.type != "_END" and not (token.type == "HEREDOC" and keyword in COMMAND)
        ]
        out: list[Gap] = []
        before: tuple[Token, int] | None = None
        for token in tokens:
            start, end = self.place(token.span)
            if before is not None:
                gap = self.between(before[0], token, before[1], start)
                out += [gap] if gap else []
            if token.type == "TEXT" and keyword in COMMAND | {"HEALTHCHECK"} and self.posix:
                out += self.shell(start, end)
            before = (token, end)
        return out

    def between(self, left: Token, right: Token, start: int, end: int) -> Gap | None:
        """Return the gap between two tokens, None if something stands there that is no token."""
        segment = self.text[start:end].strip(" \t\r\v\f")
        if left.type in ("LSQB", "STRING") and right.type in ("STRING", "RSQB"):
            comma = "," if segment == "," else ""
            return Gap(start, end, comma + " " * bool(comma), comma + " ") if segment == comma else None
        return Gap(start, end) if start < end and not segment else None

    def shell(self, start: int, end: int) -> list[Gap]:
        """Return the gaps in a script."""
        script = self.text[start:end]
        try:
            found = [(start + a, start + b) for a, b in shell_gaps(script) if a]
            ands = [t for t in Scanner(script).tokens() if t.kind == "operator" and t.text == "&&"]
        except ShellError:
            return []
        leading = {start + token.start for token in ands}
        trailing = {start + token.end for token in ands}
        before = any(b in leading and self.breaks(a, b) for a, b in found)
        return [Gap(a, b, chain=b in leading if before else a in trailing) for a, b in found]

    def breaks(self, start: int, end: int) -> range:
        """Return the numbers of the physical lines (among those of the instruction, from 0) that begin
        between two offsets."""
        return range(max(1, bisect_left(self.pieces, start)), bisect_right(self.pieces, end))

    def rows(self, text: str, gaps: list[Gap], forced: frozenset[int]) -> list[_Row]:
        """Return the lines: the text with its gaps, and with breaks where there were, and at the gaps that
        begin at `forced`."""
        broken = [found[-1] for gap in gaps if (found := self.breaks(gap.start, gap.end))]
        least = min([self.width(at) for at in broken], default=0)
        rows = [_Row([], "", 0)]
        done = 0
        for gap in gaps:
            self.verbatim(text, done, gap.start, rows)
            done = gap.end
            breaks = self.breaks(gap.start, gap.end)
            row = rows[-1]
            if not breaks and gap.start not in forced:
                row.shown += gap.text
                continue
            row.shown = (row.shown + gap.before_break).rstrip(" ") + " " + self.escape
            row.end = gap.end
            indent = " " * (INDENT + (max(0, self.width(breaks[-1]) - least) if breaks else 0))
            rows.append(_Row([c for at in breaks for c in self.comments_before(at, indent)], indent, gap.end))
        self.verbatim(text, done, self.end, rows)
        rows[-1].end = self.end
        return rows

    def verbatim(self, text: str, start: int, end: int, rows: list[_Row]) -> None:
        """Write what stands between two gaps, broken where it was."""
        for at in self.breaks(start + 1, end - 1):
            rows[-1].shown += text[start : self.pieces[at]] + self.escape
            start = rows[-1].end = self.pieces[at]
            rows.append(_Row(self.comments_before(at, " " * INDENT), "", start))
        rows[-1].shown += text[start:end]

    def comments_before(self, at: int, indent: str) -> list[str]:
        """Return the comments between physical line number `at` of the instruction and the one before."""
        numbers = self.logical.numbers
        return self.comments(numbers[at - 1], numbers[at] - 1, indent)

    def comments(self, start: int, end: int, indent: str) -> list[str]:
        """Return the comments of the physical lines from number `start` (from 0) up to `end`, indented."""
        found = [line.strip(SPACES) for line in self.raw[start:end]]
        return [indent + line for line in found if line.startswith("#")]

    def width(self, at: int) -> int:
        """Return the columns of the indent of physical line number `at` of the instruction."""
        line = self.raw[self.logical.numbers[at] - 1]
        return len(line[: len(line) - len(line.lstrip(" \t"))].expandtabs(_TAB))


class _Row:
    """A physical line under way: the comments before it, its text, and which part of the logical line it
    holds."""

    def __init__(self, comments: list[str], shown: str, start: int) -> None:
        self.comments = comments
        self.shown = shown
        self.start = start
        self.end = start
