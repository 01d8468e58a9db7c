"""What is said of a mistake: file, line and column, the excerpt, what was expected, and the nearest name."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from builder.cli import run
from tests.golden.test_golden import GOLDEN, RECIPES

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "FROM debian:12 AS build\nARG VERSION=1\nENV HOME=/x\n"
NEAR = [
    ("COPPY a b", "4:1", "COPY"),
    ("copyy a b", "4:1", "COPY"),
    ("ENRTYPOINT x", "4:1", "ENTRYPOINT"),
    ("ONBUILD RNU x", "4:9", "RUN"),
    ("COPY --chwon=1 a b", "4:6", "--chown"),
    ("RUN --mont=type=cache,target=/x a", "4:5", "--mount"),
    ("ADD --cheksum=x a b", "4:5", "--checksum"),
    ("HEALTHCHECK --intervall=1s CMD x", "4:13", "--interval"),
    ("TEST --nmae=x y", "4:6", "--name"),
    ("RUN --network=nnoe a", "4:15", "none"),
    ("RUN --security=insecur a", "4:16", "insecure"),
    ("RUN --mount=type=cahce,target=/x a", "4:18", "cache"),
    ("RUN --mount=type=cache,targte=/x a", "4:24", "target"),
    ("RUN --mount=type=cache,target=/x,sharing=lokced a", "4:34", "locked"),
    ("FROM scratch\nCOPY --from=biuld /a /b", "5:13", "build"),
    ("FROM biuld", "4:6", "build"),
    ("FROM scratch\nRUN --mount=from=biuld,target=/x a", "5:18", "build"),
    ("ENV A=$VERSOIN", "4:7", "$VERSION"),
    ("ENV A=${VERSOIN}", "4:7", "$VERSION"),
    ("ENV A=x/${VERSOIN%.*}", "4:7", "$VERSION"),
    ("WORKDIR $HOEM/x", "4:9", "$HOME"),
    ("EXPOSE 80/tpc", "4:8", "tcp"),
    ("STOPSIGNAL SIGTREM", "4:12", "SIGTERM"),
    ("HEALTHCHECK CDM x", "4:13", "CMD"),
    ("PACKAGES atp curl", "4:10", "apt"),
    ("FROM mmdebstrp://bookworm", "4:6", "mmdebstrap"),
    ("# pybuild: skip=SudoUsd\nRUN x", "4:1", "SudoUsed"),
]


@pytest.mark.parametrize(("line", "place", "name"), NEAR, ids=[line for line, _, _ in NEAR])
def test_the_nearest_name_is_proposed(
    line: str, place: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(f"{HEAD}{line}\n")
    run(["check", "--fail-level=none", "--skip=BaseImageUntagged", str(path)])
    shown = capsys.readouterr().out
    finding = re.search(
        rf"^{re.escape(str(path))}:{place}: \w+: .+ \[[\w/-]+\]\n +(\d+) \| (.*)\n +\| +\^+\n  hint: (.*)$",
        shown,
        re.MULTILINE,
    )
    assert finding, shown
    number, excerpt, hint = finding.groups()
    assert number == place.partition(":")[0]
    assert excerpt == f"{HEAD}{line}".split("\n")[int(number) - 1]
    assert f"Did you mean {name}?" in hint


def test_the_nearest_directive_and_argument_above_from_are_proposed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("# escpae=`\nARG VERSION=12\nFROM debian:${VERSOIN}\n")
    run(["check", "--fail-level=none", str(path)])
    shown = capsys.readouterr().out
    assert f"{path}:1:1: " in shown
    assert "Did you mean escape?" in shown
    assert f"{path}:3:6: " in shown
    assert "Did you mean VERSION?" in shown


def test_the_nearest_target_is_proposed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(HEAD)
    assert run(["plan", f"--root={tmp_path}/store", "--target=biuld", str(path), str(tmp_path)]) == 2
    assert "Did you mean build?" in capsys.readouterr().err


EXPECTED = [
    ("RUN", "a command"),
    ("COPY a", "a path"),
    ("USER", "a user"),
    ("WORKDIR", "a directory"),
    ("EXPOSE", "a port"),
    ("ENV", "a name"),
    ("ARG", "a name"),
    ("LABEL", "a name"),
    ("VOLUME", "a path"),
    ("STOPSIGNAL", "a signal"),
    ("CMD", "a command"),
    ("ENTRYPOINT", "a command"),
    ("SHELL", "a JSON array"),
    ("HEALTHCHECK", "CMD or NONE"),
    ("ONBUILD", "an instruction"),
    ("FROM", "an image, a stage or a recipe"),
    ("INCLUDE", "the path of a fragment"),
    ("PACKAGES", "a package manager"),
    ("TEST", "a command"),
    ("MAINTAINER", "a name"),
]


@pytest.mark.parametrize(("line", "expected"), EXPECTED, ids=[line for line, _ in EXPECTED])
def test_it_is_said_what_was_expected(
    line: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(f"FROM debian:12\n{line}\n")
    assert run(["check", str(path)]) == 1
    shown = capsys.readouterr().out
    assert f"{path}:2:" in shown
    assert expected in shown
    assert "\n  hint: " in shown


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith(("error-", "refused-"))])
def test_planning_says_the_same_with_its_place_and_leaves_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, the code of the error and the place of it; unless only the command line is wrong."""
    monkeypatch.chdir(GOLDEN)
    with open(f"{name}.golden", encoding="utf-8") as file:
        golden = file.read().partition("=== error ===")[2] or ""
    assert run(["plan", f"--root={tmp_path}/store", name, GOLDEN]) in (0, 2)
    shown = capsys.readouterr().err
    code = re.search(r"\[([a-z]+/[a-z-]+)\]$", golden, re.MULTILINE)
    if code:
        assert f"[{code[1]}]" in shown
        assert f"at {name}:" in shown
    assert os.listdir(tmp_path) == []
