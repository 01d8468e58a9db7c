"""An open document: its text, places in it, and what could be read of it.

Inside, a place is an offset in the text, in code points. Editors count lines and, in a line, UTF-16 code
units (or what was negotiated); the grammar counts lines and columns from 1, and leaves out a byte order mark.
For the protocol a lone CR ends a line as well (LSP 3.17, "Text Documents"); for a recipe it does not.
"""

from __future__ import annotations

import functools
import re
import threading
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grammar.lexer import Token
from grammar.recover import Line, Reading, is_fragment, read
from grammar.source import BOM, Source, Span

if TYPE_CHECKING:
    from builder.lsp.stages import StageMark, StageUse
    from builder.lsp.variables import Variables
    from grammar.diagnostics import Diagnostic

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Range:
    """The characters from offset `start` up to, not including, `end`."""

    start: int
    end: int

    def touches(self, offset: int) -> bool:
        """Whether a cursor at `offset` stands in it, or at one of its ends."""
        return self.start <= offset <= self.end


class Document:
    """A version of a document. `path` is its file's, "" if it has none."""

    def __init__(self, text: str, path: str = "", version: int | None = None) -> None:
        self.text = text
        self.path = path
        self.version = version
        self.source = Source(path or "Dockerfile", text)
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self._base = len(BOM) if text.startswith(BOM) else 0

    @property
    def reading(self) -> Reading:
        """What could be read of it, and what could not. One thread reads, others wait for it."""
        with self._lock:
            if self._reading is None:
                self._reading = read(self.source, fragment=is_fragment(self.source))
            return self._reading

    @functools.cached_property
    def variables(self) -> Variables:
        """Its ARGs and ENVs."""
        from builder.lsp.variables import Variables

        return Variables(self)

    @functools.cached_property
    def stages(self) -> list[StageMark]:
        """Its stages, in order."""
        from builder.lsp.stages import stage_marks

        return stage_marks(self)

    @functools.cached_property
    def stage_uses(self) -> list[StageUse]:
        """Every place that names a stage, AS aside."""
        from builder.lsp.stages import stage_uses

        return stage_uses(self)

    @functools.cached_property
    def problems(self) -> tuple[Diagnostic, ...]:
        """What `pybuild check` says of it."""
        from builder.lsp.problems import problems

        return problems(self)

    @functools.cached_property
    def lines(self) -> list[str]:
        """The lines as the grammar counts them, without their ends."""
        return self.source.lines

    @functools.cached_property
    def _starts(self) -> list[int]:
        starts = [self._base]
        for match in re.finditer("\n", self.text):
            starts.append(match.end())
        return starts

    @functools.cached_property
    def _editor_starts(self) -> list[int]:
        return [0, *[match.end() for match in _LINE_END.finditer(self.text)]]

    def offset(self, line: int, column: int) -> int:
        """Return the offset of the grammar's line and column."""
        if not 1 <= line <= len(self._starts):
            return len(self.text) if line > 1 else self._base
        start = self._starts[line - 1]
        return min(max(start + column - 1, start), start + len(self.lines[line - 1]))

    def range(self, span: Span) -> Range:
        """Return the range of a span."""
        start = self.offset(span.line, span.column)
        return Range(start, max(start, self.offset(span.end_line, span.end_column)))

    def place(self, offset: int) -> tuple[int, int]:
        """Return the grammar's line and column of an offset."""
        line = max(bisect_right(self._starts, offset), 1)
        return line, max(offset - self._starts[line - 1], 0) + 1

    def position(self, offset: int, encoding: str) -> tuple[int, int]:
        """Return an editor's line and character, from 0. `encoding` is utf-8, utf-16 or utf-32."""
        line = bisect_right(self._editor_starts, offset) - 1
        return line, units(self.text[self._editor_starts[line] : offset], encoding)

    def offset_at(self, line: int, character: int, encoding: str) -> int:
        """Return the offset of an editor's position. One past the end of a line is its end; one within a
        character is before it."""
        starts = self._editor_starts
        if line >= len(starts):
            return len(self.text)
        end = starts[line + 1] if line + 1 < len(starts) else len(self.text)
        text = self.text[starts[line] : end].rstrip("\r\n")
        if encoding == "utf-32" or text.isascii():
            return starts[line] + min(character, len(text))
        at = taken = 0
        while at < len(text) and (taken := taken + units(text[at], encoding)) <= character:
            at += 1
        return starts[line] + at

    def slice(self, where: Range) -> str:
        """Return the text of a range."""
        return self.text[where.start : where.end]

    def line_at(self, number: int) -> Line | None:
        """Return the logical line, its documents included, that the physical line `number` belongs to."""
        lines = self.reading.lines
        at = bisect_right(lines, number, key=lambda line: line.first) - 1
        return lines[at] if at >= 0 and number <= lines[at].last else None

    def logical_offset(self, line: Line, offset: int) -> int | None:
        """Return which character of a logical line stands at `offset`. None in a comment within it, and in a
        document of it."""
        number, column = self.place(offset)
        logical = line.logical
        if number not in logical.numbers:
            return None
        at = logical.numbers.index(number)
        end = logical.starts[at + 1] if at + 1 < len(logical.starts) else len(logical.text)
        return min(max(logical.starts[at] + column - logical.columns[at], logical.starts[at]), end)

    def token_at(self, line: Line, offset: int) -> Token | None:
        """Return the token of a logical line that stands at `offset`: the last one that does."""
        found = [t for t in line.tokens if t.type != "_END" and self.range(t.span).touches(offset)]
        return found[-1] if found else None


def units(text: str, encoding: str) -> int:
    """Return the length of `text` in the code units of an encoding."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    if encoding == "utf-8":
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text) + sum(char > "\uffff" for char in text)
