"""Recipes beside this room's parse result: tests/golden/NAME with NAME.ast.json, or NAME.error.txt where it
is wrong.

`UPDATE_GOLDEN=1 pytest tests/grammar/test_golden.py` writes them anew; read the difference before committing
it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from grammar.encode import dump, load
from grammar.errors import RecipeError, render
from grammar.node import Node
from grammar.parser import decode, parse
from grammar.source import Span

GOLDEN = Path(__file__).parent.parent / "golden"
RECIPES = sorted(path.name for path in GOLDEN.iterdir() if path.suffix in (".rec", ".Dockerfile"))
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"


def as_json(value: object) -> object:
    """A node as JSON that is short enough to be read: spans as `line:column-line:column`, what is not given
    left out.
    """
    if isinstance(value, Span):
        return f"{value.line}:{value.column}-{value.end_line}:{value.end_column}"
    if isinstance(value, Node):
        fields = zip(value.__match_args__, value.values(), strict=True)
        shown = {name: as_json(field) for name, field in fields if field not in (None, (), False)}
        return {"node": type(value).__name__, **shown}
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return value


def outcome(name: str) -> tuple[str, str]:
    """The kind of result that a recipe has, and the result."""
    source = decode(name, (GOLDEN / name).read_bytes())
    try:
        recipe = parse(source)
    except RecipeError as error:
        return "error.txt", render(error, source) + "\n"
    return "ast.json", json.dumps(as_json(recipe), indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_parses_to_its_golden_tree_or_error(name: str) -> None:
    kind, result = outcome(name)
    if UPDATE:
        for other in ("ast.json", "error.txt"):
            (GOLDEN / f"{name}.{other}").unlink(missing_ok=True)
        (GOLDEN / f"{name}.{kind}").write_text(result)
    assert name.startswith("error-") == (kind == "error.txt"), result
    assert result == (GOLDEN / f"{name}.{kind}").read_text()


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith("error-")])
def test_a_golden_recipe_survives_encoding(name: str) -> None:
    recipe = parse(decode(name, (GOLDEN / name).read_bytes()))
    assert load(dump(recipe)) == recipe


def test_no_golden_result_is_left_without_its_recipe() -> None:
    results = [path.name for path in GOLDEN.iterdir() if path.name.endswith((".ast.json", ".error.txt"))]
    assert [
        name for name in results if name.removesuffix(".ast.json").removesuffix(".error.txt") not in RECIPES
    ] == []
