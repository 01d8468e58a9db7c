"""Text -> Recipe: Lark's LALR parser, driven by recipe.lark, over the tokens of our own lexer.

Lark is imported when something is parsed, and its tables are made once a process: sixty milliseconds that a
build whose recipe was parsed before (encode.py) does not pay.
"""

from __future__ import annotations

import functools
import os

from grammar.ast import Fragment, Instruction, Recipe
from grammar.errors import RecipeError
from grammar.lexer import Token, tokens
from grammar.source import Source, Span
from grammar.validate import validate_fragment, validate_recipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from lark import Lark


def decode(name: str, data: bytes) -> Source:
    """Return the recipe that a file called `name` holds. Raises RecipeError (recipe/not-text) if it is not
    UTF-8 text.
    """
    try:
        text = data.decode("utf-8")
        wrong = text.find("\0")
    except UnicodeDecodeError as error:
        text = data[: error.start].decode("utf-8")
        wrong = error.start
    if wrong < 0:
        return Source(name, text)
    before = text if wrong >= len(text) else text[:wrong]
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    raise RecipeError(
        f"{name} is no recipe: it is not a text in UTF-8",
        Span(name, line, column, line, column + 1),
        hint="A recipe is a text file: a Dockerfile, or a .rec file.",
        code="recipe/not-text",
    )


def parse(source: Source) -> Recipe:
    """Return the recipe that `source` holds. Raises RecipeError, with the place, for the first thing that is
    wrong.
    """
    recipe: Recipe = _parse(source, "recipe").replace(source=source.name)
    validate_recipe(recipe)
    return recipe


def parse_fragment(source: Source) -> Fragment:
    """Return the fragment that `source` holds: what INCLUDE splices in, instructions without a FROM. Raises
    as `parse`.
    """
    fragment: Fragment = _parse(source, "fragment").replace(source=source.name)
    validate_fragment(fragment)
    return fragment


def parse_trigger(source: Source) -> Instruction:
    """Return the instruction that an image's config holds as an ONBUILD trigger. Raises as `parse`."""
    instruction: Instruction = _parse(source, "trigger")
    return instruction


def _parse(source: Source, start: str) -> Any:
    """Return what the rule `start` makes of `source`."""
    from lark.exceptions import UnexpectedToken

    try:
        return lalr().parse(source, start=start)
    except UnexpectedToken as error:
        from grammar.explain import explain

        token = error.token if isinstance(error.token, Token) else None
        raise explain(source, start, token, set(error.expected)) from None


@functools.cache
def lalr() -> Lark:
    """Return the parser for the rules of recipe.lark."""
    from lark import Lark
    from lark.lexer import Lexer

    from grammar.construct import Constructor

    class RecipeLexer(Lexer):
        """Hands our tokens to Lark."""

        __future_interface__ = 2

        def __init__(self, _conf: object) -> None:
            pass

        def lex(self, lexer_state, parser_state) -> Iterator[Token]:  # type: ignore[no-untyped-def, override]
            return tokens(lexer_state.text)

    path = os.path.join(os.path.dirname(__file__), "recipe.lark")
    with open(path, encoding="utf-8") as file:
        return Lark(
            file.read(),
            parser="lalr",
            lexer=RecipeLexer,
            start=["recipe", "fragment", "trigger"],
            transformer=Constructor(),
            maybe_placeholders=False,
        )
