"""How errors are shown, and which exit code each kind gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.errors import BaseError, BuildError, HostError, PlanError, StepFailed, UsageError
from builder.excerpts import exit_code, failure, render_error
from cache.errors import (
    CacheError,
    DigestMismatch,
    FormatError,
    RegistryError,
    StoreCorrupt,
    StoreError,
    StoreFull,
)
from grammar.errors import RecipeError
from grammar.source import Source, Span

RECIPE = Source("java.rec", "FROM debian\nCOPPY src /src\nRUN make\n")
PLACE = Span("java.rec", 2, 1, 2, 6)


def test_an_error_in_a_recipe_is_shown_with_its_line_and_a_hint() -> None:
    error = RecipeError(
        "unknown instruction COPPY", PLACE, hint="Did you mean COPY?", code="recipe/instruction"
    )
    assert render_error(error, [RECIPE]) == (
        "error: unknown instruction COPPY [recipe/instruction]\n"
        "  at java.rec:2:1\n"
        "    1 | FROM debian\n"
        "    2 | COPPY src /src\n"
        "      | ^^^^^\n"
        "    3 | RUN make\n"
        "  hint: Did you mean COPY?"
    )


def test_the_recipe_is_read_where_nobody_hands_it_over(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    path.write_text(RECIPE.text)
    shown = render_error(PlanError("no", span=Span(str(path), 3, 1, 3, 4)))
    assert "    3 | RUN make\n      | ^^^" in shown


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "shorter"])
def test_a_source_that_is_gone_costs_only_the_excerpt(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.rec"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "shorter":
        path.write_text("one\n")
    assert render_error(PlanError("no", span=Span(str(path), 30, 1, 30, 4))) == (
        f"error: no [recipe/plan]\n  at {path}:30:1"
    )


def test_an_error_of_the_store_has_no_place() -> None:
    error = StoreFull("no space left in /var/lib/pybuild", hint="pybuild prune")
    assert (
        render_error(error) == "error: no space left in /var/lib/pybuild [store/full]\n  hint: pybuild prune"
    )


def test_a_message_of_several_lines_stays_together() -> None:
    assert render_error(UsageError("a cycle:\nx -> y\ny -> x", hint="one\ntwo")) == (
        "error: a cycle: [usage/error]\n  x -> y\n  y -> x\n  hint: one\n        two"
    )


def test_what_a_stranger_named_cannot_move_the_cursor() -> None:
    shown = render_error(
        BaseError("no such image: \x1b[2J\x07x", hint="\x1b]0;t\x07y", span=Span("\x1b[Hfile", 1, 1, 1, 2)),
        [Source("\x1b[Hfile", "FROM \x1b[2Jx\n")],
    )
    assert "\x1b" not in shown and "\x07" not in shown


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StepFailed("no", status=137), 1),
        (RecipeError("no"), 2),
        (PlanError("no"), 2),
        (UsageError("no"), 2),
        (BaseError("no"), 3),
        (RegistryError("no"), 3),
        (FormatError("no"), 3),
        (DigestMismatch("no"), 3),
        (StoreError("no"), 4),
        (StoreFull("no"), 4),
        (StoreCorrupt("no"), 4),
        (CacheError("no"), 4),
        (HostError("no"), 4),
        (BuildError("no"), 4),
        (OSError(5, "no"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_the_event_of_a_failure_says_what_the_report_says() -> None:
    event = failure(
        StepFailed("`make` ended with exit code 2", status=2, hint="look above", span=PLACE), [RECIPE]
    )
    assert (event.code, event.message, event.exit_code) == ("step/failed", "`make` ended with exit code 2", 1)
    assert (event.file, event.line, event.column, event.hint) == ("java.rec", 2, 1, "look above")
    assert event.report.startswith("error: `make` ended with exit code 2 [step/failed]\n  at java.rec:2:1\n")
