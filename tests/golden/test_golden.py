"""Golden recipes: tests/golden/NAME with NAME.golden, which has what `pybuild check` says of it, its tree
with all places, its plan, and the keys of its steps; or the error.

`UPDATE_GOLDEN=1 pytest tests/golden` writes them anew; read the difference before committing it. A key that
differs means that every user's cache is lost, or worse, that one key means two things: another VERSION in
builder/keys.py.

A line `# plan: --target=…` in a recipe says how it is planned: --target, --build-arg, --label, --platform.
Names begin with `error-` where parsing refuses the recipe, and with `refused-` where planning does.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from builder.cli import run
from builder.errors import BuildError
from builder.excerpts import render_error
from builder.recipes import RecipeLoader
from cache.oci.platform import Platform
from grammar.encode import dump, load
from grammar.errors import RecipeError, render
from grammar.format import format_source
from grammar.parser import decode, parse
from tests.golden_fixtures.keyed import keyed
from tests.golden_fixtures.planned import planned
from tests.golden_fixtures.shown import shown

if TYPE_CHECKING:
    from grammar.ast import Recipe
    from grammar.source import Source

GOLDEN = os.path.dirname(os.path.abspath(__file__))
RECIPES = sorted(name for name in os.listdir(GOLDEN) if name.endswith((".rec", ".Dockerfile")))
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"
UNSUPPORTED = "recipe/unsupported"

_PLAN = re.compile(r"^# plan: (.*)$", re.MULTILINE)


def contents(name: str) -> bytes:
    with open(os.path.join(GOLDEN, name), "rb") as file:
        return file.read()


def parsed(name: str) -> Recipe:
    return parse(decode(name, contents(name)))


def given(text: str) -> dict[str, object]:
    """Return what the recipe wants to be planned with."""
    match = _PLAN.search(text)
    parser = argparse.ArgumentParser()
    parser.add_argument("--target")
    parser.add_argument("--platform", type=Platform.parse)
    for option in ("--build-arg", "--label"):
        parser.add_argument(option, action="append", default=[])
    args = parser.parse_args(shlex.split(match[1]) if match else [])
    pairs = {"arguments": args.build_arg, "labels": args.label}
    options: dict[str, object] = {
        name: tuple(tuple(text.split("=", 1)) for text in texts) for name, texts in pairs.items() if texts
    }
    if args.target:
        options["target"] = args.target
    if args.platform:
        options["platform"] = args.platform
    return options


def plan_and_keys(source: Source) -> list[tuple[str, list[str]]]:
    """Return the sections that planning gives; none if this version cannot do it."""
    loader = RecipeLoader(None)
    try:
        plan = planned(loader.load(source.name), **given(source.text))
    except (BuildError, RecipeError) as error:
        return [] if error.code == UNSUPPORTED else [("plan", [render_error(error, loader.sources.values())])]
    keys = [
        f"{key.key} {stage.name}: {step.text}\n  {'; '.join(label for label, _ in key.parts)}"
        for stage, step, key in keyed(plan)
    ]
    return [("plan", shown(plan, source.name)), *([("keys", keys)] if keys else [])]


def golden(name: str, checked: str) -> str:
    """Return what NAME.golden has to be. `checked` is what `pybuild check` prints."""
    sections = [("check", [checked.rstrip("\n")] if checked else [])]
    try:
        source = decode(name, contents(name))
    except RecipeError as error:
        sections.append(("error", [render(error)]))
    else:
        try:
            recipe = parse(source)
        except RecipeError as error:
            sections.append(("error", [render(error, source)]))
        else:
            formatted = format_source(source)
            if formatted != source.text:
                sections.append(("fmt", [formatted.removesuffix("\n")]))
            sections.append(("tree", shown(recipe, name)))
            sections += plan_and_keys(source)
    return "\n".join("\n".join([f"=== {title} ===", *lines, ""]) for title, lines in sections)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_its_golden_result(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(GOLDEN)
    assert run(["check", "--fail-level=none", "--context=.", name]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    result = golden(name, printed.out)
    path = os.path.join(GOLDEN, f"{name}.golden")
    if UPDATE:
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(result)
    assert name.startswith("error-") == ("=== error ===" in result), result
    if "=== plan ===" in result:
        assert name.startswith("refused-") == ("=== plan ===\nerror: " in result), result
    with open(path, encoding="utf-8", newline="") as file:
        assert result == file.read()


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith("error-")])
def test_a_golden_recipe_survives_encoding(name: str) -> None:
    recipe = parsed(name)
    assert load(dump(recipe)) == recipe


def test_no_golden_result_is_left_without_its_recipe() -> None:
    results = {name for name in os.listdir(GOLDEN) if name.endswith(".golden")}
    assert results == {f"{name}.golden" for name in RECIPES}
