"""docs/errors.md, events.md and configuration.md say what the code says, all of it and nothing else."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import builder
import cache
import grammar
from builder import events
from builder.config_check import check
from builder.config_keys import KEYS
from builder.progress import MODES
from builder.progress.json import event_name
from grammar.source import Source

DOCS = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "docs")

_CODE = re.compile(r"[a-z]+/[a-z][a-z-]*")
_ROW = re.compile(r"^\| `([^`]+)` +\| (.+) \|$", re.M)


def page(name: str) -> str:
    with open(os.path.join(DOCS, name), encoding="utf-8") as file:
        return file.read()


def sections(text: str) -> dict[str, str]:
    """Return the text below each heading of the second level."""
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def sources() -> Iterator[ast.Module]:
    for room in (builder, cache, grammar):
        for top in room.__path__:
            for directory, _, names in os.walk(top):
                for name in names:
                    if name.endswith(".py"):
                        with open(os.path.join(directory, name), encoding="utf-8") as file:
                            yield ast.parse(file.read())


def codes_in_source(rooms: set[str]) -> set[str]:
    """Return every error code: what is called `code`, and whatever looks like a code of the known `rooms`."""
    found = set()
    for tree in sources():
        for node in ast.walk(tree):
            if names_a_code(node):
                found |= set(constants(node.value))
            elif isinstance(node, ast.Constant):
                found |= {code for code in constants(node) if code.partition("/")[0] in rooms}
    return found


def names_a_code(node: ast.AST) -> typing.TypeGuard[ast.keyword | ast.Assign]:
    """`code="a/b"` as an argument, or `code = "a/b"` in a class or function."""
    if isinstance(node, ast.keyword):
        return node.arg == "code"
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["code"]


def constants(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and _CODE.fullmatch(inner.value):
            yield inner.value


def test_errors_md_has_every_code_once_and_no_other() -> None:
    documented = [name for name, _ in _ROW.findall(page("errors.md")) if _CODE.fullmatch(name)]
    assert sorted(documented) == sorted(set(documented))
    assert set(documented) == codes_in_source({code.partition("/")[0] for code in documented})


@pytest.mark.parametrize(
    ("heading", "codes"),
    [
        ("1: a step or test failed", {"step/failed", "test/failed"}),
        (
            "2: the recipe, the command line or the configuration is wrong",
            {"recipe/error", "recipe/plan", "usage/error"},
        ),
        (
            "3: a base, a registry or an archive could not be had",
            {"base/error", "registry/error", "image/format"},
        ),
        ("4: the store or this host cannot do it", {"host/error", "store/error", "build/error"}),
    ],
)
def test_errors_md_puts_each_family_under_its_exit_code(heading: str, codes: set[str]) -> None:
    assert codes <= {name for name, _ in _ROW.findall(sections(page("errors.md"))[heading])}


def kinds() -> tuple[Any, ...]:
    return typing.get_args(events.Event)


def test_events_md_has_every_event_with_every_field() -> None:
    documented = sections(page("events.md"))
    for kind in kinds():
        text = documented.pop(event_name(kind))
        fields = [field.name for field in dataclasses.fields(kind)]
        if kind is events.StepOutput:
            fields[fields.index("data")] = "text"
        assert [name for name, _ in _ROW.findall(text)] == fields, event_name(kind)
    assert not [name for name in documented if "_" in name]


def test_events_md_has_every_outcome_of_a_step() -> None:
    text = sections(page("events.md"))["step_finished"]
    row = next(words for name, words in _ROW.findall(text) if name == "outcome")
    assert set(re.findall(r"`(\w+)`", row)) == set(typing.get_args(events.Outcome))


def test_configuration_md_has_every_key_with_its_values() -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", sections(page("configuration.md"))["Keys"], re.M))
    assert rows == {key.name: f"{key.expected} | {key.doc}" for key in KEYS}


def test_the_example_of_configuration_md_is_valid_and_uses_every_key() -> None:
    example = re.search(r"```toml\n(.+?)```", page("configuration.md"), re.S)
    assert example is not None
    paths = check(Source("/etc/pybuild/pybuild.toml", example[1]))
    used = {
        key.name for key in KEYS for path in paths if len(path) == len(key.path) and matches(key.path, path)
    }
    assert used == {key.name for key in KEYS}


def matches(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return all(p in ("*", n) for p, n in zip(pattern, path, strict=True))


def test_every_mode_of_progress_is_explained() -> None:
    text = page("events.md") + page("configuration.md")
    for mode in MODES:
        assert f"`{mode}`" in text
