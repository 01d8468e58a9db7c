"""A shell script to its words and operators: what the linter and the formatter need to know of a RUN.

A small reader of the POSIX shell's tokens (XCU 2.2, 2.3, 2.7): quotes, `$(…)`, `${…}`, backquotes, operators,
redirections, here-documents. It expands nothing and judges nothing: what it cannot read is a ShellError, and
whoever asked leaves the script alone.
"""

from __future__ import annotations

import re

DEPTH = 50
"""How deep substitutions may nest."""
LONGEST = 256 * 1024
"""Characters of a script that is looked at: a longer one is data."""

_OPERATORS = ("&&", "||", ";;", "|&", ";", "|", "&", "(", ")", "\n")
_REDIRECTION = re.compile(r"[0-9]*(?:<<<|<<-|<<|<>|<&|>>|>&|>\||&>>|&>|<|>)")
OPENING = frozenset(("if", "while", "until", "for", "case", "select", "{"))
CLOSING = frozenset(("fi", "done", "esac", "}"))
CONDITIONS = frozenset(("if", "elif", "while", "until", "!"))
BODIES = frozenset(("then", "do", "else"))
RESERVED = OPENING | CLOSING | CONDITIONS | BODIES | {"time"}


class ShellError(ValueError):
    """The script cannot be read: a quote or a substitution is not closed."""


class ShellToken:
    """A `word`, an `operator`, a `redirection` or a `comment` of a script, and where it stands.

    A word's `text` is without quotes and escapes, its substitutions as they stand; `nested` has the tokens of
    those that run commands.
    """

    __slots__ = ("end", "kind", "nested", "quoted", "start", "text")

    def __init__(self, kind: str, start: int) -> None:
        self.kind = kind
        self.start = start
        self.end = start
        self.text = ""
        self.quoted = False
        self.nested: list[list[ShellToken]] = []


def shell_gaps(script: str) -> list[tuple[int, int]]:
    """Return the runs of blanks between the words of a script of one line: where one blank, or a line break
    that is continued, says the same. Raises ShellError."""
    gaps: list[tuple[int, int]] = []
    end = 0
    for token in Scanner(script).tokens():
        if token.start > end and token.kind != "comment":
            gaps.append((end, token.start))
        if token.kind == "comment":
            break
        end = token.end
    return gaps


class Scanner:
    """Reads tokens from a script."""

    def __init__(self, text: str) -> None:
        """Raises ShellError for a script that is too long."""
        if len(text) > LONGEST:
            raise ShellError("the script is too long")
        self.text = text
        self.pos = 0
        self.depth = 0
        self.documents: list[tuple[str, bool]] = []

    def tokens(self, *, closing: bool = False) -> list[ShellToken]:
        """Return the tokens up to the end, or up to the `)` that ends a substitution."""
        out: list[ShellToken] = []
        parentheses = cases = 0
        expect_document = ""
        while True:
            self.blanks()
            token = self.token()
            if token is None:
                if closing:
                    raise ShellError("a substitution is not closed")
                return out
            if token.text == "(" and token.kind == "operator":
                parentheses += 1
            elif token.text == ")" and token.kind == "operator":
                if parentheses:
                    parentheses -= 1
                elif closing and not cases:
                    return out
            elif token.kind == "word" and not token.quoted:
                cases += {"case": 1, "esac": -1}.get(token.text, 0) if _at_command(out) else 0
            if expect_document and token.kind == "word":
                self.documents.append((token.text, expect_document == "<<-"))
            is_document = token.kind == "redirection" and token.text.lstrip("0123456789") in ("<<", "<<-")
            expect_document = token.text.lstrip("0123456789") if is_document else ""
            out.append(token)
            if token.text == "\n" and self.documents:
                self.skip_documents()

    def blanks(self) -> None:
        """Step over blanks, and over line ends that are escaped."""
        text = self.text
        while self.pos < len(text):
            if text[self.pos] in " \t\r":
                self.pos += 1
            elif text.startswith("\\\n", self.pos):
                self.pos += 2
            else:
                return

    def token(self) -> ShellToken | None:
        text, start = self.text, self.pos
        if start >= len(text):
            return None
        if text[start] == "#":
            end = text.find("\n", start)
            return self.taken("comment", start, len(text) if end < 0 else end)
        match = _REDIRECTION.match(text, start)
        if match and not (match[0].strip("0123456789") in ("<", ">") and text.startswith("(", match.end())):
            return self.taken("redirection", start, match.end())
        for operator in _OPERATORS:
            if text.startswith(operator, start):
                return self.taken("operator", start, start + len(operator))
        return self.word()

    def taken(self, kind: str, start: int, end: int) -> ShellToken:
        token = ShellToken(kind, start)
        token.text, token.end = self.text[start:end], end
        self.pos = end
        return token

    def word(self) -> ShellToken:
        token = ShellToken("word", self.pos)
        out: list[str] = []
        text = self.text
        while self.pos < len(text):
            char = text[self.pos]
            if char in " \t\r\n;|&()" or (char in "<>" and not text.startswith("(", self.pos + 1)):
                break
            if char == "\\":
                escaped = text[self.pos + 1 : self.pos + 2]
                if escaped != "\n":
                    out.append(escaped)
                    token.quoted = True
                self.pos += 2
            else:
                out.append(self.piece(char, token))
        self.pos = min(self.pos, len(text))
        assert self.pos > token.start, "whatever is no operator is part of a word"
        token.text, token.end = "".join(out), self.pos
        return token

    def piece(self, char: str, token: ShellToken) -> str:
        """Take a quoted piece, a substitution, or one character of a word."""
        start = self.pos
        if char == "'":
            token.quoted = True
            end = self.text.find("'", start + 1)
            if end < 0:
                raise ShellError("a ' is not closed")
            self.pos = end + 1
            return self.text[start + 1 : end]
        if char == '"':
            token.quoted = True
            return self.double(token)
        if char == "`":
            return self.backquoted(token)
        if char in "$<>":
            return self.substitution(token)
        self.pos += 1
        return char

    def double(self, token: ShellToken) -> str:
        self.pos += 1
        out: list[str] = []
        while self.pos < len(self.text):
            char = self.text[self.pos]
            if char == '"':
                self.pos += 1
                return "".join(out)
            if char == "\\":
                out.append(self.text[self.pos + 1 : self.pos + 2])
                self.pos += 2
            elif char == "`":
                out.append(self.backquoted(token))
            elif char == "$":
                out.append(self.substitution(token, in_double=True))
            else:
                out.append(char)
                self.pos += 1
        raise ShellError('a " is not closed')

    def backquoted(self, token: ShellToken) -> str:
        start = self.pos
        self.pos += 1
        while self.pos < len(self.text):
            char = self.text[self.pos]
            self.pos += 2 if char == "\\" else 1
            if char == "`":
                inner = Scanner(self.text[start + 1 : self.pos - 1])
                inner.depth = self.enter()
                token.nested.append(_shifted(inner.tokens(), start + 1))
                self.depth -= 1
                return self.text[start : self.pos]
        raise ShellError("a ` is not closed")

    def substitution(self, token: ShellToken, *, in_double: bool = False) -> str:
        """Take what begins with `$`, or `<(` and `>(`."""
        start = self.pos
        following = self.text[start + 1 : start + 2]
        self.pos += 1
        if following == "(":
            self.pos += 1
            self.enter()
            nested = self.tokens(closing=True)
            self.depth -= 1
            if not self.text.startswith("$((", start):
                token.nested.append(nested)
        elif following == "{":
            self.pos += 1
            self.enter()
            self.braces(token)
            self.depth -= 1
        elif following == "'" and not in_double:
            # bash reads escapes in $'…', a POSIX shell has a $ and a quoted string.
            end = self.text.find("'", start + 2)
            if end < 0 or "\\" in self.text[start:end]:
                raise ShellError("$'…' means different things to different shells")
            token.quoted = True
            self.pos = end + 1
        return self.text[start : self.pos]

    def braces(self, token: ShellToken) -> None:
        while self.pos < len(self.text):
            char = self.text[self.pos]
            if char == "}":
                self.pos += 1
                return
            if char == "\\":
                self.pos += 2
            else:
                self.piece(char, token)
        raise ShellError("a ${ is not closed")

    def enter(self) -> int:
        self.depth += 1
        if self.depth > DEPTH:
            raise ShellError(f"substitutions are nested more than {DEPTH} deep")
        return self.depth

    def skip_documents(self) -> None:
        """Step over the here-documents whose redirections stood on the line before."""
        for name, tabs in self.documents:
            while self.pos < len(self.text):
                end = self.text.find("\n", self.pos)
                end = len(self.text) if end < 0 else end
                line = self.text[self.pos : end]
                self.pos = min(end + 1, len(self.text))
                if (line.lstrip("\t") if tabs else line) == name:
                    break
        self.documents = []


def _shifted(tokens: list[ShellToken], by: int) -> list[ShellToken]:
    for token in tokens:
        token.start += by
        token.end += by
        for nested in token.nested:
            _shifted(nested, by)
    return tokens


def _at_command(before: list[ShellToken]) -> bool:
    """Whether a word after these tokens is a command's first."""
    if not before:
        return True
    last = before[-1]
    return last.kind == "operator" or (last.kind == "word" and not last.quoted and last.text in RESERVED)
