"""ARG and ENV words: `$v`, `${v…}`, quotes and escapes, as BuildKit's shell lexer has them
(frontend/dockerfile/shell).

Part of planning, hence of each cached build: nothing heavy is imported here.
"""

from __future__ import annotations

from grammar.errors import RecipeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from grammar.source import Span

    Lookup = Callable[[str], str | None]
    """The value of a variable; None: it is unset."""

LIMIT = 16 * 1024 * 1024
"""Characters that one expansion may come to: twenty lines of `ENV a=$a$a` would fill any memory."""

DEPTH = 50
"""How deep `${v:-${…}}` may nest, well below what the interpreter's stack takes."""

SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What Go's unicode.IsSpace takes for a blank; `str.isspace` counts the separators of ASCII as well."""

_SPECIAL_PARAMETERS = frozenset("@*#?-$!")


def expand(word: str, lookup: Lookup, *, escape: str = "\\", span: Span | None = None) -> str:
    """Return `word` with its variables replaced and its quotes and escapes removed: one word, whatever
    blanks are in it.

    An unset variable is empty. Raises RecipeError (recipe/expansion) for what is unclosed or no substitution,
    and for `${v:?message}` of a variable that has no value; `span` is the place of the word.
    """
    if "$" not in word and "'" not in word and '"' not in word and escape not in word:
        return word
    return _Expander(word, lookup, escape, span).run()


def expand_words(word: str, lookup: Lookup, *, escape: str = "\\", span: Span | None = None) -> list[str]:
    """Return the words that `word` becomes: as `expand`, then split at the blanks that stand outside of
    quotes."""
    words = _Words()
    _Expander(word, lookup, escape, span).run(words)
    return [text for text, _start, _end in words.close(len(word))]


def expand_document(body: str, lookup: Lookup, *, span: Span | None = None) -> str:
    r"""Return the body of an unquoted heredoc of COPY or ADD, expanded: quotes stay, `\` escapes, `\` and LF
    join lines.

    `span` is the heredoc's, so that an error points to the line within it.
    """
    if "$" not in body and "\\" not in body:
        return body
    return _Expander(body, lookup, "\\", span, document=True).run()


def split_raw(line: str) -> list[tuple[str, int, int]]:
    """Return the shell words of a logical line as they stand there, each with its start and end offsets.

    This is how BuildKit looks for heredoc markers: quotes and escapes stay, nothing is expanded, blanks after
    an unquoted `<<` belong to its word; and a line that its lexer cannot read (a lone quote, `${x^^}`) has no
    heredocs.
    """
    words = _Words()
    try:
        _Expander(line, _unset, "\\", None, raw=True).run(words)
    except RecipeError:
        return []
    return words.close(len(line))


def _unset(_name: str) -> str | None:
    return None


class _Words:
    """Collects words, each with the place where it begins and ends."""

    __slots__ = ("done", "parts", "start")

    def __init__(self) -> None:
        self.done: list[tuple[str, int, int]] = []
        self.parts: list[str] = []
        self.start = 0

    def add(self, text: str, at: int) -> None:
        """Add text whose blanks do not split."""
        if text:
            if not self.parts:
                self.start = at
            self.parts.append(text)

    def take(self, char: str, text: str, start: int, end: int, *, whole: bool) -> None:
        """Add what was taken from `start` to `end`, where `char` stands. Blanks in it split it, unless it
        is `whole`."""
        if whole:
            self.add(text, start)
        elif char == "$":
            self.split(text, [start] * len(text))
        else:
            self.split(text, range(start, end))

    def split(self, text: str, places: Sequence[int]) -> None:
        """Add text whose blanks split; `places` tells where each of its characters comes from."""
        for at, char in enumerate(text):
            if char in SPACES:
                self.close(places[at])
            elif self.parts:
                self.parts.append(char)
            else:
                self.add(char, places[at])

    def close(self, at: int) -> list[tuple[str, int, int]]:
        """End the word that is under way, if any, and return all words."""
        if self.parts:
            self.done.append(("".join(self.parts), self.start, at))
            self.parts = []
        return self.done


class _Expander:
    """One pass over a word. `raw`: leave everything as it is (split_raw); `document`: quotes are ordinary
    characters."""

    def __init__(
        self,
        text: str,
        lookup: Lookup,
        escape: str,
        span: Span | None,
        *,
        raw: bool = False,
        document: bool = False,
    ) -> None:
        self.text = text
        self.lookup = lookup
        self.escape = escape
        self.span = span
        self.raw = raw
        self.document = document
        self.pos = 0
        self.depth = 0
        self.size = 0

    def run(self, words: _Words | None = None) -> str:
        """Expand all of the text; its words go to `words`."""
        return self.until("", raw_escapes=self.raw, words=words)

    def until(self, stop: str, start: int = 0, *, raw_escapes: bool, words: _Words | None = None) -> str:
        """Expand up to the unquoted character `stop` and step over it; an empty one: to the end.

        `start` is the place to blame if `stop` never comes.
        """
        text, escape = self.text, self.escape
        special = {"$", escape, stop}
        if not self.document:
            special |= {"'", '"'}
        if words is not None:
            special.add("<")
        out: list[str] = []
        while self.pos < len(text):
            at = self.pos
            char = text[at]
            if char not in special:
                piece = self.plain(special)
            elif char == stop:
                self.pos += 1
                return "".join(out)
            elif char == "$":
                piece = self.dollar(raw_escapes=raw_escapes)
            elif char == escape:
                piece = self.escaped(raw_escapes=raw_escapes)
            else:
                piece = self.quoted_or_marker(char, raw_escapes=raw_escapes)
            if words is not None:
                words.take(char, piece, at, self.pos, whole=char in special and char != "$")
            self.grow(piece)
            out.append(piece)
        if stop:
            self.fail(f"the {'second /' if stop == '/' else 'closing }'} is missing", start)
        return "".join(out)

    def plain(self, special: set[str]) -> str:
        """Take what stands before the next special character."""
        text, start = self.text, self.pos
        end = start + 1
        while end < len(text) and text[end] not in special:
            end += 1
        self.pos = end
        return text[start:end]

    def escaped(self, *, raw_escapes: bool) -> str:
        """Take an escape outside of quotes: the next character, as it is. At the end it stands for
        nothing."""
        following = self.text[self.pos + 1 : self.pos + 2]
        self.pos += 1 + len(following)
        if self.document and following in ("\n", "\r"):
            return self.joined(following)
        return self.escape + following if raw_escapes else following

    def joined(self, following: str) -> str:
        r"""Take the line end after a `\` in a document: it joins the next line, where there is one."""
        if following == "\r":
            if not self.text.startswith("\n", self.pos):
                return following
            self.pos += 1
            following = "\r\n"
        return "" if self.pos < len(self.text) else following

    def quoted_or_marker(self, char: str, *, raw_escapes: bool) -> str:
        if char == "'":
            return self.single()
        if char == '"':
            return self.double(raw_escapes=raw_escapes)
        return self.marker()

    def marker(self) -> str:
        """Take `<`, or `<<` with the blanks after it, which belong to the delimiter that follows."""
        start = self.pos
        self.pos += 1
        if self.text.startswith("<", self.pos):
            self.pos += 1
            while self.text[self.pos : self.pos + 1] in (" ", "\t", "\r"):
                self.pos += 1
        return self.text[start : self.pos]

    def single(self) -> str:
        """Take '…': nothing in it is special."""
        start = self.pos
        end = self.text.find("'", start + 1)
        if end < 0:
            self.fail("the closing ' is missing", start)
        self.pos = end + 1
        return self.text[start : end + 1] if self.raw else self.text[start + 1 : end]

    def double(self, *, raw_escapes: bool) -> str:
        r"""Take "…": `$` is special, and the escape before `"`, `$` and itself; before all else it is a
        character.
        """
        text, escape, start = self.text, self.escape, self.pos
        special = {'"', "$", escape}
        out = ['"'] if self.raw else []
        self.pos += 1
        while True:
            char = text[self.pos : self.pos + 1]
            if not char:
                self.fail('the closing " is missing', start)
            if char not in special:
                piece = self.plain(special)
            elif char == '"':
                self.pos += 1
                return "".join([*out, '"'] if self.raw else out)
            elif char == "$":
                piece = self.dollar(raw_escapes=raw_escapes)
            else:
                piece = self.escaped_in_double(special, raw_escapes=raw_escapes)
            self.grow(piece)
            out.append(piece)

    def escaped_in_double(self, special: set[str], *, raw_escapes: bool) -> str:
        following = self.text[self.pos + 1 : self.pos + 2]
        self.pos += 1
        if following and following in special:
            self.pos += 1
            return self.escape + following if raw_escapes else following
        kept = self.escape if following else ""
        return self.escape + kept if raw_escapes else kept

    def dollar(self, *, raw_escapes: bool) -> str:
        """Take `$name` or `${…}`."""
        start = self.pos
        self.pos += 1
        if not self.text.startswith("{", self.pos):
            name = self.name()
            if not name:
                return "$"
            value = self.lookup(name)
            return f"${name}" if self.raw and value is None else value or ""
        self.depth += 1
        if self.depth > DEPTH:
            self.fail(f"substitutions are nested more than {DEPTH} deep", start)
        value = self.braces(start)
        self.depth -= 1
        return value

    def braces(self, start: int) -> str:
        """Take the rest of `${…}`, whose `$` stands at `start`."""
        self.pos += 1
        following = self.text[self.pos : self.pos + 1]
        if not following:
            self.fail("the closing } is missing", start)
        if following in "{}:":
            self.fail(
                "bad substitution", start, hint="A substitution names a variable: ${name}, ${name:-default}."
            )
        name = self.name()
        operator = self.text[self.pos : self.pos + 1]
        self.pos += 1
        if operator == "}":
            value = self.lookup(name)
            return f"${{{name}}}" if self.raw and value is None else value or ""
        if operator == "/":
            return self.replacement(name, start)
        colon = operator == ":"
        if colon:
            operator = self.text[self.pos : self.pos + 1]
            self.pos += 1
        if not operator or operator in SPACES:
            self.fail("the closing } is missing", start)
        if operator not in "-+?#%":
            shown = (":" if colon else "") + operator
            self.fail(
                f"unsupported modifier ({shown}) in substitution",
                start,
                hint="A variable's name may be followed by :- - :+ + :? ? # ## % %% / or //.",
            )
        return self.operation(name, operator, start, colon=colon)

    def operation(self, name: str, operator: str, start: int, *, colon: bool) -> str:
        """Take the word after `${name` and one of `-+?#%`, and return what the substitution comes to."""
        word = self.until("}", start, raw_escapes=operator in "#%")
        value = self.lookup(name)
        if self.raw and value is None:
            return f"${{{name}{':' if colon else ''}{operator}{word}}}"
        missing = value is None or (colon and not value)
        if operator == "-":
            return word if missing else value or ""
        if operator == "+":
            return "" if missing else word
        if operator == "?":
            if missing:
                state = "unset" if value is None else "empty"
                self.fail(f"{name}: {word or f'is not allowed to be {state}'}", start)
            return value or ""
        from grammar.pattern import PatternError, trim_prefix, trim_suffix

        longest = word.startswith(operator)
        trim = trim_prefix if operator == "#" else trim_suffix
        try:
            return trim(word[longest:], value or "", longest=longest)
        except PatternError as error:
            self.fail(f"invalid pattern {word[longest:]!r} in substitution: {error}", start)

    def replacement(self, name: str, start: int) -> str:
        """Take the rest of `${name/pattern/text}` or `${name//pattern/text}`."""
        every = self.text.startswith("/", self.pos)
        self.pos += every
        pattern = self.until("/", start, raw_escapes=True)
        text = self.until("}", start, raw_escapes=True)
        value = self.lookup(name)
        if self.raw and value is None:
            return f"${{{name}/{pattern}/{text}}}"
        from grammar.pattern import PatternError, replace

        try:
            return replace(pattern, value or "", text, every=every, limit=LIMIT)
        except PatternError as error:
            self.fail(f"invalid pattern {pattern!r} in substitution: {error}", start)

    def name(self) -> str:
        """Take a variable's name: letters, digits, `_`; or digits only; or one of the shell's special
        parameters."""
        text, start = self.text, self.pos
        first = text[start : start + 1]
        end = start
        if first.isdecimal():
            while text[end : end + 1].isdecimal():
                end += 1
        elif first and first in _SPECIAL_PARAMETERS:
            end += 1
        else:
            while (char := text[end : end + 1]).isalpha() or char.isdecimal() or char == "_":
                end += 1
        self.pos = end
        return text[start:end]

    def grow(self, piece: str) -> None:
        self.size += len(piece)
        if self.size > LIMIT and not self.raw:
            self.fail(f"the value expands to more than {LIMIT >> 20} MiB", 0)

    def fail(self, message: str, at: int, hint: str | None = None) -> NoReturn:
        """Raise the error of the character at offset `at`."""
        raise RecipeError(message, self.place(at), hint=hint, code="recipe/expansion")

    def place(self, at: int) -> Span | None:
        """Return the place of the character at offset `at`, as far as the word's own place tells."""
        span = self.span
        if span is None:
            return None
        if self.document:
            line = span.line + self.text.count("\n", 0, at)
            column = at - (self.text.rfind("\n", 0, at) + 1) + 1
            return span.replace(line=line, column=column, end_line=line, end_column=column + 1)
        if span.line == span.end_line and span.end_column - span.column == len(self.text):
            return span.replace(column=span.column + at)
        return span
