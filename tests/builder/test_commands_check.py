"""pybuild check: what it prints, and which exit code it gives. It needs no root, no store and no network."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from builder.cli import run
from tests.tool_fixtures.nobody import as_nobody

SUDO = "FROM debian:12\nRUN sudo make\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "Dockerfile"
    path.write_text(SUDO)
    return path


def test_findings_are_printed_with_excerpts(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(recipe)]) == 1
    out = capsys.readouterr().out
    assert f"{recipe}:2:5: warning: sudo in RUN [SudoUsed]" in out
    assert "2 | RUN sudo make" in out
    assert out.endswith("\n1 warning\n")


def test_a_recipe_without_findings_prints_nothing(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text("FROM debian:12\nRUN make\n")
    assert run(["check", str(recipe)]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "level", "code"),
    [
        (SUDO, "error", 0),
        (SUDO, "warning", 1),
        (SUDO, "none", 0),
        ("FROM debian:12\nRUN cd / && make\n", "warning", 0),
        ("FROM debian:12\nRUN cd / && make\n", "info", 1),
        ("FROM debian:12\nRUNN\n", "error", 1),
        ("# check=error=true\n" + SUDO, "error", 1),
    ],
)
def test_the_exit_code_goes_by_the_level(recipe: Path, text: str, level: str, code: int) -> None:
    recipe.write_text(text)
    assert run(["check", "--fail-level", level, str(recipe)]) == code


def test_many_recipes_and_a_directory_are_checked_in_one_run(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = recipe.with_name("other.rec")
    other.write_text("FROM debian\n")
    assert run(["check", "--format=json", str(recipe.parent), str(other)]) == 1
    found = json.loads(capsys.readouterr().out)["diagnostics"]
    assert [(each["file"], each["rule"]) for each in found] == [
        (str(recipe), "SudoUsed"),
        (str(other), "BaseImageUntagged"),
    ]


def test_sarif_is_one_log_for_all(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--format=sarif", str(recipe), str(recipe)]) == 1
    (log,) = json.loads(capsys.readouterr().out)["runs"]
    assert [each["ruleId"] for each in log["results"]] == ["SudoUsed", "SudoUsed"]


def test_rules_are_skipped_by_name_and_misspelt_ones_told(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", "--skip", "BaseImageLatest,SudoUsed", str(recipe)]) == 0
    assert run(["check", "--skip=SudoUsd", str(recipe)]) == 2
    error = capsys.readouterr().err
    assert "[usage/rule]" in error
    assert "Did you mean SudoUsed?" in error


def test_the_ignore_file_of_a_context_is_looked_at(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text("FROM debian:12\nCOPY secret.txt a.txt /x/\n")
    (recipe.parent / ".dockerignore").write_text("secret*\n")
    assert run(["check", str(recipe)]) == 0
    assert run(["check", "--context", str(recipe.parent), str(recipe)]) == 1
    assert "COPY secret.txt: the ignore file leaves it out" in capsys.readouterr().out


def test_what_is_no_text_is_a_finding_and_what_is_not_there_an_error(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_bytes(b"FROM a:1\n\xff")
    assert run(["check", str(recipe)]) == 1
    assert f"{recipe}:2:1: error:" in capsys.readouterr().out
    assert run(["check", str(recipe) + ".none"]) == 2
    assert "[recipe/unreadable]" in capsys.readouterr().err


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SUDO.encode())))
    assert run(["check", "-"]) == 1
    assert capsys.readouterr().out.startswith("-:2:5: warning")


def test_it_runs_for_nobody_without_a_home_and_makes_nothing(recipe: Path) -> None:
    done = as_nobody(recipe.parent, "check", "Dockerfile")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("Dockerfile:2:5: warning")
    assert sorted(path.name for path in recipe.parent.iterdir()) == ["Dockerfile"]
