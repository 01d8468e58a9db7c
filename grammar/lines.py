"""Physical lines to logical ones: continuation, comments, directives, heredoc bodies, as BuildKit's parser
reads them.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from grammar.errors import RecipeError
from grammar.expand import SPACES
from grammar.source import BOM, Source, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from grammar.ast import Directives

LONGEST = 16 * 1024 * 1024
"""Characters that a recipe may have."""
MOST_LINES = 1_000_000
"""Lines that it may have: with LONGEST, and MOST_WORDS of the lexer, what bounds the memory that reading
it takes.
"""
MOST_INSTRUCTIONS = 10_000
"""Instructions that it may have. Each may depend on all before it, so that planning takes the square of
it.
"""

_DIRECTIVE = re.compile(r"#[ \t\f]*([a-zA-Z][a-zA-Z0-9]*)[ \t\f]*=[ \t\f]*(.+?)[ \t\f]*")


class LogicalLine:
    """An instruction's text with all its continued lines joined, and where each piece of it comes from."""

    __slots__ = ("columns", "file", "keyword", "numbers", "starts", "text")

    def __init__(self, file: str, pieces: list[str], numbers: list[int], columns: list[int]) -> None:
        """`pieces` are joined; piece n stands in the line `numbers[n]`, from the column `columns[n]` on."""
        self.file = file
        self.text = "".join(pieces)
        self.starts = [0]
        for piece in pieces[:-1]:
            self.starts.append(self.starts[-1] + len(piece))
        self.numbers = numbers
        self.columns = columns
        self.keyword = ""

    def span(self, start: int, end: int) -> Span:
        """Return the place of the characters from offset `start` to `end`."""
        if len(self.starts) == 1:
            line, column = self.numbers[0], self.columns[0]
            return Span.make((self.file, line, column + start, line, column + end))
        first = bisect_right(self.starts, start) - 1
        last = bisect_right(self.starts, max(start, end - 1)) - 1
        return Span.make(
            (
                self.file,
                self.numbers[first],
                self.columns[first] + start - self.starts[first],
                self.numbers[last],
                self.columns[last] + end - self.starts[last],
            )
        )


def too_large(message: str, span: Span, hint: str | None = None) -> RecipeError:
    """Return the error for what no recipe needs, and would take more memory than a recipe is given."""
    hint = hint or "COPY large files from the build context instead of writing them into the recipe."
    return RecipeError(message, span, hint=hint, code="recipe/too-large")


class Reader:
    """Reads a source line by line. The lexer asks for a logical line, then for the bodies of the heredocs in
    it.
    """

    def __init__(self, source: Source) -> None:
        """Raises RecipeError (recipe/too-large) for a source that is no recipe for its size alone."""
        if len(source.text) > LONGEST:
            raise too_large(f"the recipe is longer than {LONGEST >> 20} MiB", Span(source.name, 1, 1, 1, 1))
        if source.text.count("\n") > MOST_LINES:
            raise too_large(f"the recipe has more than {MOST_LINES} lines", Span(source.name, 1, 1, 1, 1))
        self.file = source.name
        self.lines = source.text.removeprefix(BOM).split("\n")
        self.next = 0
        """Index of the next physical line."""
        self.instructions = 0
        self.words = 0
        """How many instructions were read, and tokens made, so far."""
        self.escape = "\\"

    def directives(self) -> Directives:
        """Read the parser directives at the top. Raises RecipeError for one that is repeated, and a wrong
        escape.
        """
        from grammar.ast import Directives

        seen: dict[str, str] = {}
        while self.next < len(self.lines):
            line = self.lines[self.next].rstrip("\r").lstrip(SPACES)
            match = _DIRECTIVE.fullmatch(line)
            name = match[1].lower() if match else ""
            if match is None or name not in ("syntax", "escape", "check"):
                break
            if name in seen:
                raise self._wrong(f"only one {name} directive can be used")
            if name == "escape" and match[2] not in ("\\", "`"):
                raise self._wrong(f"the escape character {match[2]} is neither ` nor \\")
            seen[name] = match[2]
            self.next += 1
        self.escape = seen.get("escape", "\\")
        return Directives(seen.get("syntax"), self.escape, seen.get("check"))

    def _wrong(self, message: str) -> RecipeError:
        line = self.lines[self.next].rstrip("\r")
        span = Span(self.file, self.next + 1, 1, self.next + 1, max(2, len(line) + 1))
        return RecipeError(message, span, code="recipe/directive")

    def logical(self) -> LogicalLine | None:
        """Read the next logical line; None at the end. Comments and blank lines, also within it, are left
        out.
        """
        while self.next < len(self.lines):
            raw = self.lines[self.next].rstrip("\r")
            line = raw.lstrip(SPACES)
            self.next += 1
            if not line or line[0] == "#":
                continue
            column = len(raw) - len(line) + 1
            piece, more = self._trimmed(line)
            pieces, numbers, columns = [piece], [self.next], [column]
            while more and self.next < len(self.lines):
                raw = self.lines[self.next].rstrip("\r")
                self.next += 1
                stripped = raw.lstrip(SPACES)
                if not stripped or stripped[0] == "#":
                    continue
                piece, more = self._trimmed(raw)
                pieces.append(piece)
                numbers.append(self.next)
                columns.append(1)
            logical = LogicalLine(self.file, pieces, numbers, columns)
            if logical.text.strip(SPACES):
                self.instructions += 1
                if self.instructions > MOST_INSTRUCTIONS:
                    message = f"the recipe has more than {MOST_INSTRUCTIONS} instructions"
                    raise too_large(
                        message, logical.span(0, 1), "INCLUDE and stages of other recipes split it up."
                    )
                return logical
        return None

    def _trimmed(self, line: str) -> tuple[str, bool]:
        """Return `line` without its continuation, and whether there was one.

        Blanks may follow the escape character; a doubled one continues nothing (as BuildKit has it: not even
        three).
        """
        stripped = line.rstrip(" \t")
        if not stripped.endswith(self.escape) or stripped[-2:-1] == self.escape:
            return line, False
        return stripped[:-1], True

    def body(self, name: str, strip_tabs: bool, marker: Span) -> tuple[str, Span]:
        """Read a heredoc's body up to the line `name`. Returns it, and its place, which ends with the closing
        line.

        Raises RecipeError (recipe/heredoc) if the closing line does not come; `marker` is the place of
        `<<name`.
        """
        first = self.next
        while self.next < len(self.lines):
            line = self.lines[self.next].rstrip("\r")
            self.next += 1
            if (line.lstrip("\t") if strip_tabs else line) == name:
                body = "".join([text + "\n" for text in self.lines[first : self.next - 1]])
                return body, Span(self.file, first + 1, 1, self.next, len(line) + 1)
        raise RecipeError(
            f"the heredoc {name} is not closed",
            marker,
            hint=f"A line with nothing but {name} ends it"
            + ("." if strip_tabs else "; <<- allows tabs before it."),
            code="recipe/heredoc",
        )
