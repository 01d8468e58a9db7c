"""pybuild fmt: what it writes, and what it leaves alone."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.cli import run
from tests.tool_fixtures.nobody import as_nobody

UGLY = "from  a\nrun b   é\n"
TIDY = "FROM a\nRUN b é\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "Dockerfile"
    path.write_text(UGLY)
    return path


def test_a_recipe_is_rewritten_in_place_and_named(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.chmod(0o640)
    os.chown(recipe, 1234, 1235)
    assert run(["fmt", str(recipe)]) == 0
    assert recipe.read_text() == TIDY
    status = recipe.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, 1234, 1235)
    assert capsys.readouterr().out == f"{recipe}\n"
    assert [path.name for path in recipe.parent.iterdir()] == ["Dockerfile"]


def test_a_tidy_recipe_is_not_written(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(TIDY)
    before = recipe.stat()
    assert run(["fmt", str(recipe)]) == 0
    assert (recipe.stat().st_ino, recipe.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert capsys.readouterr() == ("", "")


def test_a_symbolic_link_stays_one(recipe: Path) -> None:
    link = recipe.with_name("link.rec")
    link.symlink_to("Dockerfile")
    assert run(["fmt", str(link)]) == 0
    assert link.is_symlink()
    assert recipe.read_text() == TIDY


def test_check_writes_nothing_and_tells(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fmt", "--check", str(recipe.parent)]) == 1
    assert recipe.read_text() == UGLY
    assert capsys.readouterr().err == f"{recipe}: not in its usual form\n"
    recipe.write_text(TIDY)
    assert run(["fmt", "--check", str(recipe)]) == 0


def test_diff_is_one_that_patch_applies(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(UGLY.rstrip("\n"))
    assert run(["fmt", "--diff", str(recipe)]) == 0
    assert recipe.read_text() == UGLY.rstrip("\n")
    diff = capsys.readouterr().out
    done = subprocess.run(["git", "apply", "--unsafe-paths", "-p0", "-"], input=diff, text=True, cwd="/")
    assert done.returncode == 0
    assert recipe.read_text() == TIDY


def test_one_unreadable_recipe_keeps_all_from_being_written(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = recipe.with_name("wrong.rec")
    wrong.write_text("FROM a\nRUNN b\n")
    assert run(["fmt", str(recipe), str(wrong)]) == 2
    assert recipe.read_text() == UGLY
    error = capsys.readouterr().err
    assert "[recipe/unknown-instruction]" in error
    assert "2 | RUNN b" in error


def test_standard_input_goes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in (UGLY, TIDY):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert run(["fmt", "-"]) == 0
        assert capsys.readouterr().out == TIDY


def test_line_ends_of_windows_stay(recipe: Path) -> None:
    recipe.write_bytes(b"from a\r\nrun b\r\n")
    assert run(["fmt", str(recipe)]) == 0
    assert recipe.read_bytes() == b"FROM a\r\nRUN b\r\n"


def test_nobody_may_check_but_not_write(recipe: Path) -> None:
    assert as_nobody(recipe.parent, "fmt", "--check", "Dockerfile").returncode == 1
    recipe.parent.chmod(0o755)
    done = as_nobody(recipe.parent, "fmt", "--diff", "Dockerfile")
    assert (done.returncode, done.stderr) == (0, "")
    assert "+FROM a" in done.stdout
