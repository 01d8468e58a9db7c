"""The project as a whole: its rooms, its package, its commands."""

from __future__ import annotations

import ast
import os
import subprocess
import tomllib
from collections.abc import Iterator

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

ALLOWED = {
    "grammar": {"grammar"},
    "cache": {"cache"},
    "builder": {"builder", "cache", "grammar"},
    "pybuild_testinfra": {"pybuild_testinfra"},
}
"""Which of our rooms each room may import."""


def modules(room: str) -> Iterator[str]:
    for directory, _, names in os.walk(os.path.join(ROOT, room)):
        yield from (os.path.join(directory, name) for name in names if name.endswith(".py"))


def imports(path: str) -> Iterator[str]:
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""


def test_imports_go_one_way() -> None:
    ours = set(ALLOWED) | {"tests", "bench", "recipes", "docs"}
    for room, allowed in ALLOWED.items():
        paths = list(modules(room))
        assert paths
        for path in paths:
            rooms = {name.partition(".")[0] for name in imports(path)} & ours
            assert rooms <= allowed, f"{path} imports {rooms - allowed}"


def test_every_package_is_in_the_wheel() -> None:
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        listed = tomllib.load(file)["tool"]["setuptools"]["packages"]
    found = {
        os.path.relpath(os.path.dirname(path), ROOT).replace("/", ".")
        for room in ALLOWED
        for path in modules(room)
    }
    assert sorted(listed) == sorted(found)


def test_modules_stay_small() -> None:
    for room in ALLOWED:
        for path in modules(room):
            with open(path, encoding="utf-8") as file:
                assert sum(1 for _ in file) <= 450, f"{path} should be parted"


def test_ci_does_what_make_test_does_and_nothing_more() -> None:
    with open(os.path.join(ROOT, ".ci", "run"), encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert lines == ["#!/bin/bash", "set -eu", 'cd "$(dirname "$0")/.."', "make test"]
    assert os.access(os.path.join(ROOT, ".ci", "run"), os.X_OK)


def test_make_alone_lists_every_target() -> None:
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        targets = [line.split()[1] for line in file if line.startswith(".PHONY:")]
    done = subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory"], check=True, capture_output=True, text=True
    )
    assert [line.split()[1] for line in done.stdout.splitlines()] == targets
