"""Parsing that goes on after a mistake: each instruction by itself, so that one run tells of all that is
wrong.

For the linter and editors. A build uses `parser.parse`, which stops at the first mistake: whatever that
accepts, this reads the same.
"""

from __future__ import annotations

from grammar.ast import Arg, Directives, Fragment, From, Instruction, Recipe, Stage
from grammar.errors import RecipeError
from grammar.explain import explain
from grammar.lexer import Token, line_tokens
from grammar.lines import LogicalLine, Reader
from grammar.node import Node
from grammar.parser import lalr
from grammar.source import Source
from grammar.validate import validate_fragment, validate_recipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 200
"""Mistakes that one run tells of: what is no recipe has one on every line."""


class Line(Node):
    """A logical line: its tokens, and the instruction that they make, None if they make none.

    `first` and `last` are its physical lines, from 1, and `bodies` the first line of its heredocs' bodies
    (after `last` if there are none).
    """

    logical: LogicalLine
    tokens: tuple[Token, ...]
    instruction: Instruction | None
    first: int
    bodies: int
    last: int


class Reading(Node):
    """What could be read of a recipe, and what could not. `recipe` has what was right; it is None where there
    is no stage. For a fragment it has one stage, whose FROM is made up."""

    source: Source
    recipe: Recipe | None
    fragment: bool
    lines: tuple[Line, ...]
    errors: tuple[RecipeError, ...]


def read(source: Source, *, fragment: bool = False) -> Reading:
    """Read `source`, a recipe or with `fragment` what INCLUDE splices in, to its end."""
    return _Recovery(source, fragment).run()


def is_fragment(source: Source) -> bool:
    """Whether `source` is for INCLUDE, by its looks: a file called *.rec without any FROM."""
    if not source.name.endswith(".rec"):
        return False
    return not any(line.split()[:1] and line.split()[0].upper() == "FROM" for line in source.lines)


class _Recovery:
    def __init__(self, source: Source, fragment: bool) -> None:
        self.source = source
        self.fragment = fragment
        self.errors: list[RecipeError] = []
        self.lines: list[Line] = []
        self.stage_begun = False

    def run(self) -> Reading:
        try:
            reader = Reader(self.source)
        except RecipeError as error:
            return Reading(self.source, None, self.fragment, (), (error,))
        directives = self.directives(reader)
        try:
            while len(self.errors) < MOST and (logical := reader.logical()) is not None:
                self.line(reader, logical)
        except RecipeError as error:
            self.errors.append(error)
        recipe = self.assembled(directives)
        if recipe is not None and not self.errors and not self.fragment:
            self.attempt(lambda: validate_recipe(recipe))
        errors = sorted(self.errors, key=_place)
        return Reading(self.source, recipe, self.fragment, tuple(self.lines), tuple(errors))

    def directives(self, reader: Reader) -> Directives:
        while True:
            at = reader.next
            try:
                found = reader.directives()
            except RecipeError as error:
                self.errors.append(error)
                reader.next = max(reader.next, at) + 1
                return Directives(escape=reader.escape)
            return found

    def line(self, reader: Reader, logical: LogicalLine) -> None:
        bodies = reader.next + 1
        tokens: tuple[Token, ...] = ()
        instruction = None
        try:
            tokens = tuple(line_tokens(reader, logical))
            instruction = self.instruction(tokens)
        except RecipeError as error:
            if error.code == "recipe/too-large":
                raise
            self.errors.append(error)
        self.stage_begun = self.stage_begun or bool(tokens and tokens[0].type == "FROM")
        self.lines.append(Line(logical, tokens, instruction, logical.numbers[0], bodies, reader.next))

    def instruction(self, tokens: tuple[Token, ...]) -> Instruction:
        """Return the instruction that the tokens of a line make. Raises RecipeError."""
        first = tokens[0]
        if self.fragment or first.type != "FROM":
            if not self.fragment and first.type not in ("ARG", "UNKNOWN") and not self.stage_begun:
                raise explain(self.source, "recipe", first, {"FROM", "ARG"})
            found: Fragment = _parsed(self.source, "fragment", tokens)
            validate_fragment(found)
            return found.instructions[0]
        recipe: Recipe = _parsed(self.source, "recipe", tokens)
        validate_recipe(recipe)
        return recipe.stages[0].from_

    def attempt(self, check: Any) -> None:
        try:
            check()
        except RecipeError as error:
            self.errors.append(error)

    def assembled(self, directives: Directives) -> Recipe | None:
        """Return what was read as a recipe."""
        arguments: list[Arg] = []
        stages: list[Stage] = []
        below: list[Instruction] = []
        from_: From | None = _no_from(self.source) if self.fragment else None

        def close() -> None:
            if from_ is not None:
                stages.append(Stage(from_, from_.name, len(stages), tuple(below)))
            below.clear()

        for line in self.lines:
            instruction = line.instruction
            if isinstance(instruction, From):
                close()
                from_ = instruction
            elif from_ is None and isinstance(instruction, Arg):
                arguments.append(instruction)
            elif instruction is not None and from_ is not None:
                below.append(instruction)
        close()
        if not stages:
            if not self.errors:
                self.errors.append(explain(self.source, "recipe", None, set()))
            return None
        return Recipe(self.source.name, directives, tuple(arguments), tuple(stages))


def _parsed(source: Source, start: str, tokens: tuple[Token, ...]) -> Any:
    """Return what the rule `start` makes of the tokens of one instruction. Raises RecipeError."""
    from lark.exceptions import UnexpectedToken

    parser = lalr().parse_interactive("", start=start)
    try:
        for token in tokens:
            parser.feed_token(token)  # type: ignore[arg-type]
        return parser.feed_eof(tokens[-1])  # type: ignore[no-untyped-call]
    except UnexpectedToken as error:
        token_ = error.token if isinstance(error.token, Token) else None
        raise explain(source, start, token_, set(error.expected)) from None


def _no_from(source: Source) -> From:
    """Return the FROM that a fragment does not have."""
    from grammar.ast import Word
    from grammar.source import Span

    span = Span(source.name, 1, 1, 1, 1)
    return From(span, "", Word("", span))


def _place(error: RecipeError) -> tuple[int, int]:
    return (error.span.line, error.span.column) if error.span else (0, 0)
