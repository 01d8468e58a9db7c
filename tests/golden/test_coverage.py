"""The golden recipes cover the language: every point of it, instruction, flag, mount option, operator, and
every error that reading a recipe can end with."""

from __future__ import annotations

import os
import re
from functools import cache

import pytest

from grammar import ast
from grammar.errors import RecipeError
from grammar.lexer import FLAGS, KEYWORDS
from grammar.mounts import _KEYS, _ONLY_FOR, SHARING, TYPES
from grammar.node import Node
from grammar.parser import lalr
from tests.golden.test_golden import GOLDEN, RECIPES, parsed

POINTS = [f"D{n}" for n in range(1, 44)] + [f"E{n}" for n in range(1, 7)] + ["T1", "T2", "T3"]
POINTS += [f"P{n}" for n in range(1, 24)]
ROOT = os.path.dirname(os.path.dirname(GOLDEN))
NO_GOLDEN = {
    "recipe/too-large": "tests/grammar/test_hostile.py",
    "recipe/error": "the base class's",
    "include/limit": "tests/grammar/test_includes.py",
    "recipe/fragment": "tests/grammar/test_parser.py",
}
"""Errors that a golden recipe is no place for."""


@cache
def table() -> dict[str, list[str]]:
    """The rows of README.md: a point, and the recipes that cover it."""
    with open(os.path.join(GOLDEN, "README.md"), encoding="utf-8") as file:
        rows = re.findall(r"^\| ([A-Z][0-9]+) \|[^|]*\|([^|]*)\|$", file.read(), re.MULTILINE)
    return {point: re.findall(r"`([^`]+)`", names) for point, names in rows}


def test_every_point_of_the_language_has_its_recipes() -> None:
    assert list(table()) == POINTS
    assert [point for point, names in table().items() if not names] == []


def test_every_recipe_covers_a_point_and_is_there() -> None:
    assert {name for names in table().values() for name in names} == set(RECIPES)
    assert len(RECIPES) >= 150


@cache
def nodes() -> tuple[object, ...]:
    """Every node of every golden recipe that parses."""
    out: list[object] = []
    for name in RECIPES:
        if name.startswith("error-"):
            continue
        pending: list[object] = [parsed(name)]
        while pending:
            value = pending.pop()
            out.append(value)
            pending += (
                value.values() if isinstance(value, Node) else value if isinstance(value, tuple) else ()
            )
    return tuple(out)


def test_every_instruction_is_parsed_and_planned() -> None:
    found = {node.keyword for node in nodes() if isinstance(node, ast.Instruction)}
    assert found == KEYWORDS


def test_every_flag_of_every_instruction_is_used() -> None:
    """By the grammar's own account of which instruction takes which."""
    rules: dict[str, set[str]] = {}
    for rule in lalr().rules:
        rules.setdefault(str(rule.origin.name), set()).update(symbol.name for symbol in rule.expansion)

    def below(name: str, seen: set[str]) -> set[str]:
        """The terminals that a rule may have, but for those of a trigger."""
        found: set[str] = set()
        for symbol in rules.get(name, {name}) - seen:
            seen.add(symbol)
            found |= {symbol} if symbol.isupper() else below(symbol, seen)
        return found

    used = {
        (node.keyword, flag) for node in nodes() if isinstance(node, ast.Instruction) for flag in _flags(node)
    }
    names = ("from_", "run", "copy", "add", "healthcheck", "test")
    wanted = {
        (rule.strip("_").upper(), flag)
        for rule in names
        for flag, terminal in FLAGS.items()
        if terminal in below(rule, set())
    }
    assert len(wanted) > 25
    assert wanted - used == set()


def _flags(node: ast.Instruction) -> list[str]:
    return re.findall(r"(?:^|\s)(--[a-z-]+)", node.text)


def test_every_mount_and_option_is_used() -> None:
    mounts = [node for node in nodes() if isinstance(node, ast.Mount) and node.type.plain]
    assert {mount.type.text for mount in mounts} == set(TYPES)
    used = {(mount.type.text, pair.key.text) for mount in mounts for pair in mount.options}
    for key, types in _ONLY_FOR.items():
        for each in types:
            assert (each, key) in used, (each, key)
    assert {key for _, key in used} == set(_KEYS) - {"type"}
    assert {word.text for mount in mounts if (word := mount.option("sharing"))} | {"shared"} == set(SHARING)


@pytest.mark.parametrize("operator", [":-", "-", ":+", "+", ":?", "?", "#", "##", "%", "%%", "/", "//"])
def test_every_operator_is_used(operator: str) -> None:
    pattern = re.compile(r"\$\{[a-z]+" + re.escape(operator) + r"[^-+?#%/:]")
    assert any(isinstance(node, ast.Word) and pattern.search(node.text) for node in nodes())


def test_every_error_of_reading_a_recipe_has_a_recipe() -> None:
    """And each error is shown with its place, unless the recipe as a whole is meant."""
    raised: set[str] = set()
    for top, _, names in os.walk(os.path.join(ROOT, "grammar")):
        for name in names:
            if name.endswith(".py"):
                with open(os.path.join(top, name), encoding="utf-8") as file:
                    raised |= set(re.findall(r'"((?:recipe|include)/[a-z-]+)"', file.read()))
    shown: set[str] = set()
    for name in RECIPES:
        with open(os.path.join(GOLDEN, f"{name}.golden"), encoding="utf-8") as file:
            text = file.read()
        shown |= set(re.findall(r"\[((?:recipe|include)/[a-z-]+)\]$", text, re.MULTILINE))
        if name.startswith("error-") and "=== error ===" in text:
            assert f"\n  at {name}:" in text
    assert raised - shown - set(NO_GOLDEN) == set()
    assert RecipeError.code in NO_GOLDEN
