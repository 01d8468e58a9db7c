"""`pybuild shell`: the state before any line of a recipe, with the environment, user and directory of
that line.
"""

from __future__ import annotations

import os

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.debug_fixtures.terminal import Terminal
from tests.sandbox_fixtures.scene import mount_table

RECIPE = """\
ARG COLOUR=red
FROM box AS first
RUN echo one > /one

ENV SIZE=large
# a comment
RUN <<END
echo two > /two
END
TEST false
USER app
WORKDIR /home/app

FROM box AS last
ARG COLOUR
COPY --from=first /one /copied
RUN exit 3
RUN echo never > /never
"""


@pytest.fixture
def recipe(pybuild: Pybuild) -> Pybuild:
    pybuild.write("test.rec", RECIPE)
    return pybuild


@pytest.mark.parametrize(
    ("place", "seen"),
    [
        (":2", "/ root none"),
        (":3", "/ root none"),
        (":4", "/ root one none"),
        (":5", "/ root one none"),
        (":7", "/ root one large"),
        (":8", "/ root one large"),
        (":10", "/ root one two large"),
        (":12", "/ app one two large"),
        (":13", "/home/app app one two large"),
        ("#first", "/home/app app one two large"),
        ("#0", "/home/app app one two large"),
        (":17", "/ root copied red none"),
    ],
)
def test_the_state_is_that_before_the_line(recipe: Pybuild, place: str, seen: str) -> None:
    words = "pwd; id -un; ls / | grep -E 'one|two|copied|never'; echo ${COLOUR-} ${SIZE-none}"
    assert recipe("shell", f"test.rec{place}", "-c", words, "--progress", "quiet").split() == seen.split()


def test_what_is_needed_is_built_once_and_what_fails_is_told(recipe: Pybuild) -> None:
    assert "DONE" in recipe.try_("shell", "test.rec:17", "-c", "true").err
    again = recipe.try_("shell", "test.rec:17", "-c", "exit 9")
    assert again.code == 9 and "DONE" not in again.err and "pybuild shell" not in again.err
    done = recipe.try_("shell", "test.rec", "-c", "true")
    assert done.code == 1 and "exit code 3" in done.err


def test_what_is_written_is_thrown_away(recipe: Pybuild) -> None:
    mounts = mount_table()
    assert recipe("shell", "test.rec#first", "-u", "root", "-c", "echo x > /new; cat /new") == "x\n"
    assert recipe.try_("shell", "test.rec#first", "-c", "cat /new").code == 1
    assert mount_table() == mounts and os.listdir(f"{recipe.root}/tmp") == []


def test_a_shell_is_opened_on_a_terminal(recipe: Pybuild) -> None:
    terminal = Terminal(recipe, "shell", "test.rec:12")
    assert "test.rec, before line 12" in terminal.prompt("/", "test.rec")
    terminal.send("id -un")
    assert terminal.prompt("/", "test.rec").split() == ["app"]
    assert terminal.end("exit 4")[0] == 4
    assert "debug/terminal" in recipe.try_("shell", "test.rec").err


def test_build_options_are_heeded(recipe: Pybuild) -> None:
    assert recipe("shell", "test.rec:17", "--build-arg", "COLOUR=blue", "-c", "echo $COLOUR") == "blue\n"
    assert recipe("shell", "test.rec", "--target", "first", "-c", "pwd") == "/home/app\n"
    assert recipe("shell", "-f", "test.rec:4", ".", "-c", "ls /one") == "/one\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["test.rec:1"], "shell/line"),
        (["test.rec:99"], "shell/line"),
        (["test.rec#frist"], "stage/unknown"),
        (["test.rec:3", "--target", "first"], "usage/arguments"),
        (["nothing.rec:3"], "recipe/unreadable"),
    ],
)
def test_places_that_are_not_there(recipe: Pybuild, words: list[str], code: str) -> None:
    done = recipe.try_("shell", *words, "-c", "true")
    assert (done.code, f"[{code}]" in done.err) == (2, True), done.err


def test_lines_of_a_recipe_that_includes(pybuild: Pybuild) -> None:
    pybuild.write("part", "RUN echo part > /part\n")
    pybuild.write("test.rec", "FROM box\nRUN true\nINCLUDE part\nRUN true\n")
    assert pybuild.try_("shell", "test.rec:3", "-c", "cat /part").code == 1
    assert pybuild("shell", "test.rec:4", "-c", "cat /part") == "part\n"


def test_the_order_of_stages_does_not_matter(pybuild: Pybuild) -> None:
    """A base that is another recipe, and a stage that the line does not need."""
    pybuild.write("base.rec", "FROM box\nRUN echo base > /base\n")
    pybuild.write("test.rec", "FROM box AS unneeded\nRUN false\nFROM ./base.rec\nRUN echo here\n")
    assert pybuild("shell", "test.rec:4", "-c", "cat /base") == "base\n"
