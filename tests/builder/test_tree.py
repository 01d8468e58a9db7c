"""What a COPY's source selects of a tree, through the ignore rules."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import PlanError
from builder.patterns import IgnoreRules
from tests.build_fixtures.copying import Copying


@pytest.fixture
def copying(tmp_path: Path) -> Copying:
    found = Copying(str(tmp_path))
    for name in ("a.txt", "b.txt", "src/main.c", "src/lib/x.c", "src/lib/y.h", "docs/a.md", "docs/sub/b.md"):
        found.write(name, name)
    return found


def code(copying: Copying, source: str, *rules: str) -> str:
    with pytest.raises(PlanError) as caught:
        copying.select(source, rules=rules)
    assert caught.value.hint or caught.value.code == "copy/pattern"
    return caught.value.code


def test_names_and_patterns(copying: Copying) -> None:
    assert copying.select("a.txt") == ["a.txt"]
    assert copying.select("/a.txt") == copying.select("./a.txt") == copying.select("../../a.txt") == ["a.txt"]
    assert copying.select("src") == ["src", "src/lib", "src/lib/x.c", "src/lib/y.h", "src/main.c"]
    assert copying.select("src/") == copying.select("docs/../src") == copying.select("src")
    assert copying.select("*.txt") == ["a.txt", "b.txt"]
    assert copying.select("?.txt", "[b].txt") == ["a.txt", "b.txt", "b.txt"]
    assert copying.select("*/lib") == ["src/lib", "src/lib/x.c", "src/lib/y.h"]
    assert copying.select("src/*/x.c") == ["src/lib/x.c"]
    assert copying.select("**/a.md") == ["docs/a.md"]
    assert copying.select("**/b.md") == []
    assert copying.select("none*", "*/none") == []
    assert copying.select(".")[0] == ""


def test_what_is_not_there(copying: Copying) -> None:
    assert code(copying, "nothing") == "copy/missing"
    assert code(copying, "a.txt/below") == "copy/missing"
    assert code(copying, "src/*/[x") == "copy/pattern"
    assert code(copying, "a.txt", "*.txt") == "copy/ignored"
    assert code(copying, "src", "src") == "copy/ignored"
    assert code(copying, "src/main.c", "src") == "copy/ignored"
    assert code(copying, "src", "src", "!docs") == "copy/ignored"


def test_names_with_wildcards_in_them(copying: Copying) -> None:
    copying.write("odd[1]", "")
    copying.write("o*d", "")
    copying.write("back\\slash", "")
    assert copying.select("odd[[]1]") == ["odd[1]"]
    assert copying.select("o\\*?") == ["o*d"]
    assert copying.select("back\\slash") == ["back\\slash"]
    assert copying.select("b*\\\\slash") == ["back\\slash"]


def test_links_are_followed_up_to_the_first_wildcard(copying: Copying) -> None:
    os.symlink("src", f"{copying.context}/ld")
    os.symlink("lib/x.c", f"{copying.context}/src/lf")
    os.symlink("nowhere", f"{copying.context}/src/dangling")
    assert copying.select("ld/*.c") == ["src/main.c"]
    assert copying.select("*/main.c") == ["src/main.c"]
    assert copying.select("ld/lf") == ["src/lib/x.c"]
    assert copying.select("l*/lib") == []
    assert code(copying, "src/dangling") == "copy/missing"
    assert "src/dangling" in copying.select("src")


def test_ignored_files_are_not_there(copying: Copying) -> None:
    assert copying.select(".", rules=("src", "docs")) == ["", "a.txt", "b.txt"]
    assert copying.select("*", rules=("*.txt", "docs", "src/lib")) == ["src", "src/main.c"]
    assert copying.select(".", rules=("*", "!src/lib/*.h")) == ["", "src", "src/lib", "src/lib/y.h"]
    assert copying.select("src", rules=("*", "!src/lib/*.h")) == ["src", "src/lib", "src/lib/y.h"]
    assert copying.select("src/lib/*", rules=("*", "!src/lib/*.h")) == ["src/lib/y.h"]
    assert copying.select("docs", rules=("docs/**",)) == ["docs"]


def test_a_link_does_not_lead_to_an_ignored_file(copying: Copying) -> None:
    os.symlink("src/main.c", f"{copying.context}/link")
    os.symlink("src", f"{copying.context}/ld")
    assert code(copying, "link", "src") == "copy/ignored"
    assert code(copying, "ld", "src") == "copy/ignored"
    assert copying.select("ld", rules=("src", "!src/main.c")) == ["src", "src/main.c"]


def test_names_that_are_no_utf_8(copying: Copying) -> None:
    copying.write("d/\udcff\udcfe", "")
    copying.write("d/ü", "")
    assert copying.select("d/*") == ["d/ü", "d/\udcff\udcfe"]
    assert copying.select("d/\udcff*") == ["d/\udcff\udcfe"]
    assert copying.select("d", rules=("d/\udcff*",)) == ["d", "d/ü"]
    assert copying.fingerprint("d").files[1][0] == "d/ü"


def test_sockets_are_left_out(copying: Copying) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{copying.context}/docs/socket")
        assert copying.select("docs") == ["docs", "docs/a.md", "docs/sub", "docs/sub/b.md"]


RULES = ("a", "b", "*", "a/b", "**/b", "a/*", "!a", "!b", "!a/b", "!**/b", "!a/b/a", "b/**")


@given(st.lists(st.sampled_from(RULES), max_size=4))
def test_a_walk_finds_what_is_not_ignored_with_the_directories_above_it(
    tmp_path_factory: pytest.TempPathFactory, rules: list[str]
) -> None:
    """Against each file asked alone."""
    copying = _small(tmp_path_factory)
    compiled = IgnoreRules(rules)
    expected: set[str] = set()
    for directory, _, files in os.walk(copying.context):
        below = os.path.relpath(directory, copying.context).removeprefix(".").lstrip("/")
        if below and not compiled.ignores(below) and _reachable(compiled, below):
            expected |= set(_above(below)) | {below}
        for name in files:
            path = f"{below}/{name}" if below else name
            if not compiled.ignores(path) and _reachable(compiled, path):
                expected |= set(_above(path)) | {path}
    assert set(copying.select(".", rules=tuple(rules))) - {""} == expected


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _reachable(rules: IgnoreRules, path: str) -> bool:
    return rules.has_exceptions or not any(rules.ignores(above) for above in _above(path))


_SMALL: list[Copying] = []


def _small(factory: pytest.TempPathFactory) -> Copying:
    if not _SMALL:
        found = Copying(str(factory.mktemp("small")))
        for name in ("a/a/x", "a/b/a/x", "a/b/c", "b/a", "b/b/b", "c/a", "x"):
            found.write(name, name)
        os.makedirs(f"{found.context}/c/b/empty")
        _SMALL.append(found)
    return _SMALL[0]
