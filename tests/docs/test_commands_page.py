"""docs/commands.md: every command with every option, and examples that run as they stand."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.cli import COMMANDS, parser
from tests.command_fixtures.pybuild import ARGV, ROOT, Pybuild
from tests.registry_fixtures.registry import Registry

PAGE = os.path.join(ROOT, "docs", "commands.md")
EVERYWHERE = {"help", "root", "config", "snapshotter"}


def page() -> str:
    with open(PAGE, encoding="utf-8") as file:
        return file.read()


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", page(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(text: str) -> list[tuple[frozenset[str], str]]:
    """Return the rows of the tables: an argument's spellings, and what is said of it."""
    rows = []
    for cell, words in re.findall(r"^\| (`.+?) \| (.*) \|$", text, re.M):
        spellings = {spelling.split(" ")[0] for spelling in re.findall(r"`([^`]+)`", cell)}
        rows.append((frozenset(spellings), words.replace("\\|", "|")))
    return rows


def known(command: argparse.ArgumentParser) -> list[tuple[frozenset[str], str]]:
    rows = []
    for action in command._actions:
        if action.dest not in EVERYWHERE:
            spellings = frozenset(action.option_strings or [str(action.metavar)])
            rows.append((spellings, " ".join((action.help or "").replace("%%", "%").split())))
    return rows


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (found,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found.choices)


def test_every_command_is_there_in_the_order_of_help() -> None:
    assert list(sections()) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_is_explained_as_help_does(name: str) -> None:
    assert documented(sections()[name]) == known(subparsers()[name])


def test_every_command_has_an_example() -> None:
    for name, text in sections().items():
        assert re.search(rf"^\$ .*pybuild .*{'' if name == 'build' else name}", text, re.M), name


def examples(registry: str) -> Iterator[tuple[str, str]]:
    """Yield each command of the page, and what it prints, with `registry` for the page's."""
    text = page().replace("localhost:5000", registry)
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            lines = part.splitlines()
            count = 1
            while count < len(lines) and lines[count].startswith("> "):
                count += 1
            command = "\n".join([lines[0], *(line.removeprefix("> ") for line in lines[1:count])])
            yield command, "\n".join(lines[count:])


def pattern(text: str) -> re.Pattern[str]:
    """Return what the output must match: `…` is anything, and columns are as wide as they are."""
    lines = []
    for line in text.splitlines():
        words = [re.escape(word).replace("…", ".*") for word in line.split()]
        lines.append(r"\s*".join(words) if "…" in line else r"\s+".join(words))
    return re.compile(r"\s*\n".join(lines) + r"\s*")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """The registry that the page calls localhost:5000."""
    with Registry(str(tmp_path / "registry")) as running:
        yield running


@pytest.mark.peer("busybox", "docker-registry")
def test_the_examples_run_and_print_what_the_page_says(tmp_path: Path, registry: Registry) -> None:
    pybuild = Pybuild(str(tmp_path / "store"), str(tmp_path / "work"))
    (tmp_path / "work").mkdir()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "pybuild"
    program.write_text(f'#!/bin/sh\nexec {" ".join(ARGV)} "$@"\n')
    program.chmod(0o755)
    environment = pybuild.environment(
        PATH=f"{tmp_path}/bin:{os.environ['PATH']}", COLUMNS="80", HOME=str(tmp_path)
    )
    count = 0
    for command, expected in examples(registry.address):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=pybuild.cwd,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode in (0, 128 + 13), f"{command}\n{done.stdout}{done.stderr}"
        assert pattern(expected).fullmatch(done.stdout), f"{command}\n{done.stdout}\n{expected}"
        count += 1
    assert count > len(COMMANDS)
