"""docs/language.md: its recipes parse, its error is the one that is shown, its codes are those that there
are.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from grammar import lexer
from grammar.errors import RecipeError, render
from grammar.parser import parse, parse_fragment
from grammar.recover import is_fragment
from grammar.source import Source

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "language.md").read_text()
RECIPES = re.findall(r"^```dockerfile\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
def test_the_recipes_of_the_reference_parse(recipe: str) -> None:
    source = Source("example.rec", recipe)
    assert parse_fragment(source).instructions if is_fragment(source) else parse(source).stages


def test_the_reference_has_recipes() -> None:
    assert len(RECIPES) >= 5


def test_the_error_of_the_reference_is_shown_like_that() -> None:
    source = Source("Dockerfile", "FROM debian\nCOPPY a b\n")
    with pytest.raises(RecipeError) as caught:
        parse(source)
    assert f"```\n{render(caught.value, source)}\n```" in TEXT


def test_the_reference_names_every_instruction_flag_and_code() -> None:
    for name in (*lexer.KEYWORDS, *lexer.FLAGS):
        assert name in TEXT, name
    code = re.compile(r'"(recipe/[a-z-]+)"')
    raised = {match for path in (ROOT / "grammar").glob("*.py") for match in code.findall(path.read_text())}
    assert sorted(raised - {"recipe/error"}) == sorted(set(re.findall(r"`(recipe/[a-z-]+)`", TEXT)))
