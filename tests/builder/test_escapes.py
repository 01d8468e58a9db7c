"""The escape suite: hostile recipes and images, run by the real builder, and what must not come of them.

For every case holds: what is beside the context is as it was, down to times; so are files and settings of the
host that an attack would go for; no text of a file that only the host may read is in any output or in the
store; no process and no temporary file is left; memory stays within a bound; no error is a traceback; no
control character gets to the terminal. A probe that gets what it must not have says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.escape_fixtures.arena import Arena
from tests.escape_fixtures.case import Case
from tests.escape_fixtures.checks import forget, try_case
from tests.escape_fixtures.place import SECRET, Place
from tests.escape_fixtures.suite import CASES
from tests.escape_fixtures.table import with_table
from tests.escape_fixtures.ways import ROOT, WAYS, read_results

LIGHT = [case for case in CASES if not case.heavy]
EVERYWHERE = {
    "copy-link-chain",
    "exec-own-program-by-script",
    "layer-sandbox-links",
    "cache-links",
    "devices",
    "owners-outside",
}
"""What is tried in every way in which a build can run; `make escapes` tries all."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("escapes"))


@pytest.fixture(scope="module")
def arena(directory: str) -> Iterator[Arena]:
    opened = Arena(directory)
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=WAYS[1:], ids=lambda way: way.name)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    opened = Arena(str(tmp_path_factory.mktemp("escapes")), way=request.param)
    yield opened
    opened.close()


def ending(case: Case, arena: Arena) -> str:
    place = Place(f"{arena.directory}/{case.name}")
    try:
        return try_case(case, arena, place)
    finally:
        forget(place)


@pytest.mark.parametrize("case", LIGHT, ids=lambda case: case.name)
def test_nothing_escapes(case: Case, arena: Arena) -> None:
    ended = ending(case, arena)
    assert case.code is None or ended == read_results()[case.name][ROOT.name]


@pytest.mark.peer("newuidmap")
@pytest.mark.parametrize(
    "case", [case for case in LIGHT if case.name in EVERYWHERE], ids=lambda case: case.name
)
def test_nor_does_it_in_other_ways_to_build(case: Case, other: Arena) -> None:
    """Without root, with root filesystems that are no overlay."""
    assert ending(case, other) == read_results()[case.name][other.way.name]


def test_each_result_is_of_a_case_and_a_way() -> None:
    """`make escapes` writes them down."""
    results = read_results()
    assert {case.name for case in LIGHT} <= set(results) <= {case.name for case in CASES}
    assert {way for name in results for way in results[name]} == {way.name for way in WAYS}
    assert [case.name for case in LIGHT if len(results[case.name]) != len(WAYS)] == []


def test_each_case_has_a_name_of_its_own_and_does_something() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 100
    assert [case.name for case in CASES if not (case.recipes or case.commands)] == []


@pytest.mark.parametrize(
    ("what", "step"),
    [
        ("something outside was changed", f"echo x > {'{outside}'}/new"),
        ("a secret of the host's was shown", "cat {outside}/secret"),
        ("ESCAPED", "echo ESCA''PED:"),
    ],
)
def test_an_escape_is_noticed(what: str, step: str, arena: Arena, directory: str) -> None:
    """With a mount of the host's directory, which a build cannot have: `pybuild run -v` is the way."""
    place = Place(f"{directory}/noticed")
    line = step.replace("{outside}", "/o")
    run = ("run", "--rm", "-v", f"{place.outside}:/o", "escaped", "sh", "-c", line)
    case = Case("noticed", "", "", ("FROM base\nRUN true\n",), words=("-t", "escaped"), commands=(run,))
    try:
        with pytest.raises(AssertionError, match=what):
            try_case(case, arena, place)
    finally:
        forget(place)


def test_the_table_is_in_the_documentation(checkout: str) -> None:
    """`make escapes` writes it, and UPDATE_GOLDEN=1 from what that has written down."""
    path = f"{checkout}/docs/security.md"
    with open(path, encoding="utf-8") as file:
        text = file.read()
    wanted = with_table(text, read_results())
    if os.environ.get("UPDATE_GOLDEN"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(wanted)
    assert SECRET not in wanted
    assert text == wanted or os.environ.get("UPDATE_GOLDEN"), "UPDATE_GOLDEN=1 brings it up to date"
