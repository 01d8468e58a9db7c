"""Where text comes from, and how a place in it is shown."""

from __future__ import annotations

from grammar.node import Node

BOM = "\ufeff"
"""The mark that some editors put before a text. It is no part of it, and has no column."""

_WIDEST = 160
"""Columns of a source line that an excerpt shows: a minified line must not flood a terminal."""


class Span(Node):
    """A piece of a file. Lines and columns count from 1; `end_column` is the column after the last
    character."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def to(self, other: Span) -> Span:
        """Return the span from the start of this one to the end of `other`."""
        return Span(self.file, self.line, self.column, other.end_line, other.end_column)

    @property
    def chain(self) -> tuple[Span, ...]:
        """The places of the INCLUDEs that brought this piece of a fragment to where it is, the nearest
        first."""
        return ()

    @property
    def plain(self) -> Span:
        """The same piece of the file, whoever included that."""
        return self

    def included(self, chain: tuple[Span, ...]) -> Span:
        """Return the same piece, of a fragment that INCLUDEs at the places `chain` brought, the nearest
        first."""
        return _IncludedSpan.make((*self.plain.values(), chain))


class _IncludedSpan(Span):
    """A piece of a fragment."""

    included_from: tuple[Span, ...]

    @property
    def chain(self) -> tuple[Span, ...]:
        return self.included_from

    @property
    def plain(self) -> Span:
        return Span.make(self.values()[:-1])


class Source(Node):
    """The text of a recipe, under the name that errors call it by (a path, or `-`)."""

    name: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines without their ends. Ends are LF or CRLF, as the lexer has it: no other character ends
        a line."""
        return [line.removesuffix("\r") for line in self.text.removeprefix(BOM).split("\n")]


def excerpt(source: Source, span: Span, context: int = 1, *, lines: list[str] | None = None) -> str:
    """Return the lines of `span` with `context` lines around them, numbered, and carets below what `span`
    covers.

    Of a span over many lines only the first is marked. Text that a terminal would act upon is shown as `?`.
    `lines` are those of the source, where they are at hand.
    """
    if lines is None:
        lines = source.lines
    if not 1 <= span.line <= len(lines):
        return ""
    first = max(1, span.line - context)
    last = min(len(lines), span.line + context)
    if last > span.line and last == len(lines) and not lines[-1]:
        last -= 1
    width = len(str(last))
    out: list[str] = []
    for number in range(first, last + 1):
        line = lines[number - 1]
        skip = max(0, span.column - _WIDEST // 2) if span.column > _WIDEST - 20 else 0
        shown = printable(line[skip : skip + _WIDEST])
        out.append(f"{number:>{width}} | {shown}".rstrip())
        if number == span.line:
            out.append(f"{'':>{width}} | {_carets(line, shown, span, skip)}")
    return "\n".join(out)


def _carets(line: str, shown: str, span: Span, skip: int) -> str:
    """Return the carets that stand below `shown`, which is `line` from the column after `skip` on."""
    start = max(0, span.column - 1 - skip)
    end = span.end_column - 1 - skip if span.end_line == span.line else len(line) - skip
    end = min(max(end, start + 1), max(len(shown), start + 1))
    return " " * start + "^" * (end - start)


def printable(text: str) -> str:
    """Return `text` with each tab as a blank, and each control character as `?`, so that columns stay."""
    return "".join(" " if c == "\t" else c if c.isprintable() else "?" for c in text)
