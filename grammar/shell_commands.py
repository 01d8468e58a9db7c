"""The commands of a shell script, each with the operators around it: what the linter's rules look at."""

from __future__ import annotations

import re

from grammar.node import Node
from grammar.shell import BODIES, CLOSING, CONDITIONS, OPENING, RESERVED, Scanner, ShellToken

_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")


class ShellWord(Node):
    """A word. `text` is without quotes and escapes, its substitutions as they stand; `start` and `end` are
    its place in the script."""

    text: str
    start: int
    end: int
    quoted: bool = False


class ShellCommand(Node):
    """A simple command.

    `words` are the program and its arguments, without assignments and redirections. `before` and `after` are
    the operators around it: "", `&&`, `||`, `;`, `|`, `&`, `(`, `)` or a line end. `depth` counts the
    substitutions and subshells around it, `block` the if, for, while, case and `{`. `condition`: its exit
    code is asked for, by `if`, `while`, `until` or `!`.
    """

    words: tuple[ShellWord, ...]
    before: str = ""
    after: str = ""
    depth: int = 0
    block: int = 0
    condition: bool = False

    @property
    def program(self) -> str:
        """The name of the program, without its directory; "" for assignments alone."""
        return self.words[0].text.rpartition("/")[2] if self.words else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words after the program's name."""
        return tuple([word.text for word in self.words[1:]])

    @property
    def piped(self) -> bool:
        """Whether a pipe leads into it."""
        return self.before in ("|", "|&")


def shell_commands(script: str) -> tuple[ShellCommand, ...]:
    """Return the simple commands of `script` in order, those in substitutions right after the one that they
    stand in. Raises ShellError."""
    out: list[ShellCommand] = []
    _Grouping(out, 0).run(Scanner(script).tokens())
    return tuple(out)


class _Grouping:
    """Makes commands of tokens."""

    def __init__(self, out: list[ShellCommand], depth: int) -> None:
        self.out = out
        self.depth = depth
        self.around: list[str] = []
        """The compound commands around, innermost last; `(` for a subshell."""
        self.condition = False
        self.pattern = False
        self.begin("")

    def begin(self, before: str) -> None:
        self.before = before
        self.words: list[ShellWord] = []
        self.nested: list[list[ShellToken]] = []
        self.header = self.assigned = self.target = False

    def run(self, tokens: list[ShellToken]) -> None:
        for token in tokens:
            if token.kind == "operator":
                self.operator(token.text)
            elif token.kind == "redirection":
                self.target = True
            elif token.kind == "word":
                self.word(token)
        self.end("")

    def word(self, token: ShellToken) -> None:
        self.nested += token.nested
        if self.target:
            self.target = False
        elif not self.words and not self.assigned and not token.quoted and token.text in RESERVED:
            self.reserved(token.text)
        elif not self.words and _ASSIGNMENT.match(token.text):
            self.assigned = True
        else:
            self.words.append(ShellWord(token.text, token.start, token.end, token.quoted))

    def reserved(self, word: str) -> None:
        if word in OPENING:
            self.around.append(word)
            # What follows up to the next operator is a list of words, no command.
            self.header = word in ("for", "case", "select")
            self.pattern = word == "case"
        elif word in CLOSING and self.around and self.around[-1] != "(":
            self.around.pop()
            self.pattern = False
        if word in CONDITIONS:
            self.condition = True
        elif word in BODIES or word in CLOSING:
            self.condition = False

    def operator(self, text: str) -> None:
        self.end(text, is_command=not self.pattern and text != "(")
        if self.around[-1:] == ["case"] and text in (")", ";;"):
            self.pattern = text == ";;"
        elif text == "(" and not self.pattern:
            self.around.append("(")
        elif text == ")" and self.around[-1:] == ["("]:
            self.around.pop()
        self.begin(text)

    def end(self, after: str, *, is_command: bool = True) -> None:
        """Finish the command that is under way."""
        if self.words and is_command and not self.header:
            subshells = self.around.count("(")
            self.out.append(
                ShellCommand(
                    tuple(self.words),
                    self.before,
                    after,
                    self.depth + subshells,
                    len(self.around) - subshells,
                    self.condition,
                )
            )
        if after in (";", "\n", "&") and self.condition and not {*self.around} & {"if", "while", "until"}:
            self.condition = False  # of a `!`
        for tokens in self.nested:
            _Grouping(self.out, self.depth + 1).run(tokens)
