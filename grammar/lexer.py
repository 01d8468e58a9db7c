"""Logical lines to the tokens of recipe.lark.

What a character means depends on the instruction, so that the lexer, not the grammar, knows which instruction
splits at blanks, which minds quotes, and which takes the rest of the line or a JSON array. What may follow
what is the grammar's.
"""

from __future__ import annotations

import re

from grammar.ast import Heredoc, Pair, Word
from grammar.expand import SPACES, expand, split_raw
from grammar.json_form import json_strings
from grammar.lines import LogicalLine, Reader, too_large

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammar.source import Source, Span

COMMAND = frozenset(("RUN", "CMD", "ENTRYPOINT", "SHELL", "TEST"))
"""A command line, or a JSON array."""
WORDS = frozenset(("FROM", "COPY", "ADD", "VOLUME", "EXPOSE", "PACKAGES"))
"""Words split at blanks, quotes or not."""
JSON_WORDS = frozenset(("COPY", "ADD", "VOLUME"))
"""Those of them that may be a JSON array."""
PAIRS = frozenset(("ENV", "LABEL", "ARG", "INCLUDE"))
"""Words split at blanks outside of quotes."""
TEXT = frozenset(("WORKDIR", "USER", "STOPSIGNAL", "MAINTAINER"))
"""The rest of the line, as it is."""
HEREDOCS = frozenset(("RUN", "COPY", "ADD", "TEST"))
KEYWORDS = COMMAND | WORDS | PAIRS | TEXT | {"HEALTHCHECK", "ONBUILD"}

_FLAG_NAMES = """
    platform variant include mirror keyring mount network security from chown chmod link parents exclude
    checksum keep-git-dir unpack interval timeout start-period start-interval retries name testinfra
"""
FLAGS = {f"--{name}": f"{name.upper().replace('-', '_')}_FLAG" for name in _FLAG_NAMES.split()}
"""Each flag and its terminal. Which instruction takes which is for the grammar to say."""

MOST_WORDS = 250_000
"""Tokens that a recipe may have, and words that are looked for in one instruction."""

_BLANKS = re.compile(r"[\t\v\f\r ]+")
_WORD = re.compile(r"[^\t\v\f\r ]+")
_MARKER = re.compile(r"([0-9]*)<<(-?)[\t\r ]*([^<]*)", re.DOTALL)


class Token:
    """A terminal of recipe.lark: its name, its value (an AST node where it stands for one), its place and
    line.
    """

    __slots__ = ("at", "flag", "logical", "span", "type", "value")

    # Lark's end-of-input token borrows these from the last one; we tell places by spans.
    start_pos = line = column = end_line = end_column = end_pos = None

    def __init__(
        self, type_: str, value: object, span: Span, logical: LogicalLine, flag: str = "", at: int = 0
    ) -> None:
        """`flag` is a flag's name with its dashes, `at` where in the logical line a keyword begins."""
        self.type = type_
        self.value = value
        self.span = span
        self.logical = logical
        self.flag = flag
        self.at = at

    def __repr__(self) -> str:
        return f"Token({self.type}, {self.value!r})"


def tokens(source: Source) -> Iterator[Token]:
    """Yield the tokens of a recipe, read as the parser asks for them. Raises RecipeError for what is no
    token.
    """
    reader = Reader(source)
    directives = reader.directives()
    if reader.next:
        top = LogicalLine(source.name, reader.lines[:1], [1], [1])
        yield Token("DIRECTIVES", directives, top.span(0, len(top.text)), top)
    while (logical := reader.logical()) is not None:
        yield from line_tokens(reader, logical)


def line_tokens(reader: Reader, logical: LogicalLine) -> list[Token]:
    """Return the tokens of the logical line that `reader` has just read; its heredocs are read on from there.
    Raises RecipeError for what is no token.
    """
    found = _Instruction(reader, logical).tokens()
    reader.words += len(found)
    if reader.words > MOST_WORDS:
        raise too_large(f"the recipe has more than {MOST_WORDS} words", logical.span(0, 1))
    return found


class _Instruction:
    """The tokens of one logical line, from `pos` on."""

    __slots__ = ("end", "logical", "pos", "reader", "text")

    def __init__(self, reader: Reader, logical: LogicalLine) -> None:
        self.reader = reader
        self.logical = logical
        self.text = logical.text
        self.pos = 0
        self.end = len(self.text.rstrip(SPACES))

    def tokens(self) -> list[Token]:
        out: list[Token] = []
        keyword = self.keyword(out)
        if keyword == "ONBUILD" and self.pos < self.end:
            keyword = self.keyword(out)
        if keyword in KEYWORDS:
            self.bound(keyword)
            self.arguments(keyword, out)
            span = self.logical.span(self.end, self.end)
            out.append(Token("_END", "", span.replace(end_column=span.end_column + 1), self.logical))
        return out

    def bound(self, keyword: str) -> None:
        """Raise RecipeError (recipe/too-large) for more words than a recipe may have, before they take
        memory.
        """
        if self.end < MOST_WORDS:
            return
        words = self.text.count('"') // 2
        if keyword not in COMMAND:
            words += sum(1 for _ in _WORD.finditer(self.text, self.pos, self.end))
        if words > MOST_WORDS:
            raise too_large(f"{keyword} has more than {MOST_WORDS} words", self.logical.span(0, 1))

    def token(self, type_: str, value: object, start: int, end: int, flag: str = "") -> Token:
        return Token(type_, value, self.logical.span(start, end), self.logical, flag)

    def word(self, type_: str, start: int, end: int, text: str | None = None) -> Token:
        """Return a token whose value is the Word from `start` to `end`, or `text` in its place."""
        span = self.logical.span(start, end)
        return Token(type_, Word(self.text[start:end] if text is None else text, span), span, self.logical)

    def keyword(self, out: list[Token]) -> str:
        """Take the instruction's name, and the flags behind it."""
        match = _WORD.search(self.text, self.pos, self.end)
        assert match is not None, "a logical line is not blank"
        keyword = match[0].upper() if match[0].isascii() else match[0]
        self.logical.keyword = keyword
        known = keyword in KEYWORDS
        span = self.logical.span(*match.span())
        type_ = keyword if known else "UNKNOWN"
        out.append(Token(type_, match[0], span, self.logical, at=match.start()))
        self.pos = match.end()
        if known:
            self.flags(out)
        return keyword

    def skip(self) -> None:
        """Step over blanks."""
        while self.pos < self.end and self.text[self.pos] in SPACES:
            self.pos += 1

    def flags(self, out: list[Token]) -> None:
        """Take the words that begin with `--`; a lone `--` ends them. Quotes and backslashes in them are
        removed.
        """
        while True:
            self.skip()
            if not self.text.startswith("--", self.pos):
                return
            start = self.pos
            text = self.flag()
            if text == "--":
                self.skip()
                return
            name, equals, value = text.partition("=")
            # Quotes and escapes make a value shorter than its place; only without them its start can be told.
            at = start + len(name) + 1 if self.text[start : self.pos] == text else start
            word = Word(value, self.logical.span(at, self.pos)) if equals else None
            out.append(self.token(FLAGS.get(name, "UNKNOWN_FLAG"), word, start, self.pos, name))

    def flag(self) -> str:
        """Take one flag. The escape here is always the backslash, whatever the directive says, as in
        BuildKit.
        """
        out: list[str] = []
        quote = ""
        while self.pos < self.end:
            char = self.text[self.pos]
            self.pos += 1
            if char == "\\":
                out.append(self.text[self.pos : min(self.pos + 1, self.end)])
                self.pos += 1
            elif quote:
                if char == quote:
                    quote = ""
                else:
                    out.append(char)
            elif char in SPACES:
                self.pos -= 1
                break
            elif char in "'\"":
                quote = char
            else:
                out.append(char)
        self.pos = min(self.pos, self.end)
        return "".join(out)

    def arguments(self, keyword: str, out: list[Token]) -> None:
        """Take all that follows the flags."""
        if keyword in COMMAND:
            self.command(out, heredocs=keyword in HEREDOCS)
        elif keyword in WORDS:
            self.words(keyword, out)
        elif keyword in PAIRS:
            self.pairs(keyword, out)
        elif keyword in TEXT:
            if self.pos < self.end:
                out.append(self.word("TEXT", self.pos, self.end))
        elif keyword == "HEALTHCHECK":
            self.healthcheck(out)

    def command(self, out: list[Token], *, heredocs: bool) -> None:
        """Take a JSON array, or the rest of the line and the documents it opens."""
        if self.pos >= self.end or self.json(out):
            return
        out.append(self.word("TEXT", self.pos, self.end))
        if heredocs:
            for heredoc, start, end in self.heredocs():
                out.append(self.token("HEREDOC", heredoc, start, end))

    def healthcheck(self, out: list[Token]) -> None:
        match = _WORD.search(self.text, self.pos, self.end)
        if match is None:
            return
        kind = match[0].upper()
        known = kind in ("CMD", "NONE")
        out.append(self.word(kind if known else "WORD", match.start(), match.end()))
        self.pos = match.end()
        self.skip()
        if known:
            self.command(out, heredocs=False)

    def json(self, out: list[Token]) -> bool:
        """Take a JSON array of strings, if that is what the rest of the line is."""
        strings = json_strings(self.text, self.pos, self.end, self.logical)
        if strings is None:
            return False
        out.append(self.token("LSQB", "[", self.pos, self.pos + 1))
        out.extend(self.word("STRING", start, end, text) for text, start, end in strings)
        out.append(self.token("RSQB", "]", self.end - 1, self.end))
        return True

    def words(self, keyword: str, out: list[Token]) -> None:
        """Take words that are split at blanks, and the documents that some of them open."""
        if keyword in JSON_WORDS and self.json(out):
            return
        documents = {start: (doc, end) for doc, start, end in self.heredocs()} if keyword in HEREDOCS else {}
        first = self.pos
        while (match := _WORD.search(self.text, self.pos, self.end)) is not None:
            start, self.pos = match.span()
            if start in documents:
                heredoc, self.pos = documents[start]
                out.append(self.token("HEREDOC", heredoc, start, self.pos))
            elif keyword == "FROM" and match[0].lower() == "as" and start != first and out[-1].type == "WORD":
                out.append(self.word("AS" if out[-2].type != "AS" else "WORD", start, self.pos))
            else:
                out.append(self.word("WORD", start, self.pos))

    def pairs(self, keyword: str, out: list[Token]) -> None:
        """Take words that are split at blanks outside of quotes: `key=value`, or only a name."""
        start = self.pos
        words = self.quoted_words()
        if not words:
            return
        if keyword in ("ENV", "LABEL") and "=" not in words[0][0]:
            # `ENV key value`: the value is the rest of the line, and the key ends at the first blank, quoted
            # or not.
            match = _BLANKS.search(self.text, start, self.end)
            key_end = match.start() if match else self.end
            out.append(self.word("NAME", start, key_end))
            if match:
                out.append(self.word("VALUE", match.end(), self.end))
            return
        if keyword == "INCLUDE":
            text, start, end = words.pop(0)
            out.append(self.word("WORD", start, end, text))
        for text, start, end in words:
            out.append(self.pair(text, start, end))

    def pair(self, text: str, start: int, end: int) -> Token:
        key, equals, value = text.partition("=")
        if not equals:
            return self.word("NAME", start, end, text)
        span = self.logical.span(start, end)
        at = start + len(key) + 1
        key_word = Word(key, self.logical.span(start, at - 1))
        return Token(
            "PAIR", Pair(key_word, Word(value, self.logical.span(at, end)), span), span, self.logical
        )

    def quoted_words(self) -> list[tuple[str, int, int]]:
        """Return the words up to the end of the line, quotes and escapes in them, each with its start and
        end.

        An escape as the last character is dropped.
        """
        text, escape, end = self.text, self.reader.escape, self.end
        words: list[tuple[str, int, int]] = []
        pos = self.pos
        while pos < end:
            if text[pos] in SPACES:
                pos += 1
                continue
            start = pos
            quote = ""
            while pos < end and (quote or text[pos] not in SPACES):
                char = text[pos]
                if char == escape and quote != "'":
                    pos += 1
                elif char == quote:
                    quote = ""
                elif not quote and char in "'\"":
                    quote = char
                pos += 1
            dropped = pos > end
            pos = min(pos, end)
            words.append((text[start : pos - dropped], start, pos))
        self.pos = end
        return [word for word in words if word[0]]

    def heredocs(self) -> list[tuple[Heredoc, int, int]]:
        """Read the documents that the line opens; each with the start and end of its marker."""
        out: list[tuple[Heredoc, int, int]] = []
        if "<<" not in self.text:
            return out
        for word, start, end in split_raw(self.text):
            match = _MARKER.fullmatch(word)
            if match is None or not match[3]:
                continue
            marker = self.logical.span(start, end)
            # A variable in a delimiter is none: `<<$EOF` ends with the line `$EOF`.
            name = expand(match[3], "${}".format, span=marker)
            strip_tabs = match[2] == "-"
            body, span = self.reader.body(name, strip_tabs, marker)
            quoted = len(name) != len(match[3]) and _quotes(name) != _quotes(match[3])
            fd = int(match[1][:9] or "0")
            out.append((Heredoc(name, body, not quoted, strip_tabs, span, fd), start, end))
        return out


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
