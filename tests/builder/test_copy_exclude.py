"""COPY and ADD --exclude: patterns as in an ignore file, relative to each source."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import PlanError
from builder.patterns import IgnoreRules
from tests.build_fixtures.copying import Copying
from tests.build_fixtures.project import Project


@pytest.fixture
def copying(tmp_path: Path) -> Copying:
    found = Copying(str(tmp_path))
    for name in ("101.png", "102.txt", "103.jpeg"):
        found.write(f"dir1/{name}", name)
    for name in ("201.pdf", "202.jpeg", "203.png", "sub/204.txt"):
        found.write(f"dir2/{name}", name)
    found.write("top.txt", "top")
    found.write("top.md", "top")
    return found


def files(copying: Copying, line: str, rules: tuple[str, ...] = ()) -> list[str]:
    """Return the files below /x once a line was carried out."""
    copying.copy(line, rules=rules)
    return sorted(p[2:] for p, what in copying.files("x").items() if not what.startswith("dir"))


# Most of them are BuildKit's testExcludedFilesOnCopy.
CASES = {
    "--exclude=*/*.png --exclude=*/*.jpeg --exclude=top* . /x": [
        "dir1/102.txt",
        "dir2/201.pdf",
        "dir2/sub/204.txt",
    ],
    "--exclude=*.png dir1/ /x/": ["102.txt", "103.jpeg"],
    "--exclude=*.jpeg --exclude=*.p* dir* /x/": ["102.txt", "sub/204.txt"],
    "--exclude=**/*.txt dir* /x/": ["101.png", "103.jpeg", "201.pdf", "202.jpeg", "203.png"],
    "--exclude=*.txt dir2 /x/": ["201.pdf", "202.jpeg", "203.png", "sub/204.txt"],
    "--exclude=sub dir2 /x/": ["201.pdf", "202.jpeg", "203.png"],
    "--exclude=dir2/sub dir2 /x/": ["201.pdf", "202.jpeg", "203.png", "sub/204.txt"],
    "--exclude=* --exclude=!*.pdf dir2 /x/": ["201.pdf"],
    "--exclude=* --exclude=!sub/*.txt dir2 /x/": ["sub/204.txt"],
    "--exclude=*.txt t* /x/": ["top.md"],
    "--exclude=*.txt top.txt top.md /x/": ["top.md"],
    "--exclude=dir1/*.png dir1/*.png /x/": ["101.png"],
    "--exclude=*.png dir1/*.png /x/": [],
    "--exclude=* dir* /x/": [],
    "--exclude=top.txt top.txt /x": [],
    "--exclude=/sub/ dir2 /x/": ["201.pdf", "202.jpeg", "203.png"],
}


@pytest.mark.parametrize("words", CASES)
def test_what_is_left_out(copying: Copying, words: str) -> None:
    assert files(copying, f"COPY {words}") == CASES[words]


def test_a_destination_is_made_though_nothing_of_a_directory_is_left(copying: Copying) -> None:
    copying.copy("COPY --exclude=* dir1 /x")
    assert copying.files() == {"x": "dir 755"}


def test_ignore_rules_and_variables(copying: Copying) -> None:
    assert files(copying, "COPY --exclude=*.pdf dir2 /x/", ("**/*.png", "dir2/sub")) == ["202.jpeg"]
    copying.copy("ARG what=png\nCOPY --exclude=*.$what dir1 /y/")
    assert sorted(copying.files("y/")) == ["y/102.txt", "y/103.jpeg"]


def test_documents_and_the_destination_are_not_meant(copying: Copying) -> None:
    assert files(copying, "COPY --exclude=doc --exclude=x <<doc top.md /x/\nd\ndoc") == ["doc", "top.md"]


def test_a_directory_that_comes_back_for_what_is_in_it_and_is_there_already_takes_the_mode_only(
    copying: Copying,
) -> None:
    os.chmod(f"{copying.context}/dir2/sub", 0o700)
    os.makedirs(f"{copying.root}/x/sub")
    os.chown(f"{copying.root}/x/sub", 4, 4)
    copying.copy("COPY --exclude=sub --exclude=!sub/204.txt dir2 /x/")
    assert copying.files()["x/sub"] == "dir 700 4:4"


def test_what_is_no_pattern(copying: Copying) -> None:
    for pattern, says in {"[": "unclosed", "a[b-": "bad range", "!": "no pattern"}.items():
        with pytest.raises(PlanError, match=says) as caught:
            copying.copy(f"COPY --exclude={pattern} a b")
        assert caught.value.code == "copy/pattern"
        assert caught.value.span is not None


def test_what_is_left_out_is_not_looked_at(copying: Copying) -> None:
    """So that a change there costs nothing, not even a look."""
    tree = copying.tree()
    tree.select(".", exclude=("dir2", "*.md"))
    assert "dir1/101.png" in tree.seen
    assert not {"dir2", "dir2/201.pdf", "dir2/sub", "top.md"} & tree.seen.keys()
    tree.close()


RULES = ("a", "b", "*", "a/b", "**/b", "a/*", "!a", "!b", "!a/b", "!**/b", "!a/b/a", "b/**")


@given(st.lists(st.sampled_from(RULES), max_size=4), st.sampled_from(["", "a", "a/b"]))
def test_exclusion_is_ignoring_from_the_source_on(
    tmp_path_factory: pytest.TempPathFactory, patterns: list[str], start: str
) -> None:
    """The same patterns as ignore rules of a context that begins there find the same."""
    copying = _small(tmp_path_factory)
    tree = copying.tree()
    alone = copying.tree(tuple(patterns), os.path.join(copying.context, start))
    try:
        (found,) = tree.select(start or ".", exclude=tuple(patterns))
        (expected,) = alone.select(".")
    finally:
        tree.close()
        alone.close()
    assert [os.path.relpath(entry.path or ".", start or ".") for entry in found.entries[1:]] == [
        entry.path for entry in expected.entries[1:]
    ]
    rules = IgnoreRules(patterns)
    assert found.implied == {
        entry.path
        for entry in found.entries[1:]
        if os.path.isdir(f"{copying.context}/{entry.path}")
        and rules.ignores(os.path.relpath(entry.path, start or "."))
    }


_SMALL: list[Copying] = []


def _small(factory: pytest.TempPathFactory) -> Copying:
    if not _SMALL:
        found = Copying(str(factory.mktemp("small")))
        for name in ("a/a/x", "a/b/a/x", "a/b/c", "b/a", "b/b/b", "c/a", "x"):
            found.write(name, name)
        os.makedirs(f"{found.context}/c/b/empty")
        _SMALL.append(found)
    return _SMALL[0]


def test_a_change_of_an_excluded_file_is_a_hit(project: Project) -> None:
    project.write("src/main.c", "1")
    project.write("src/notes.md", "1")
    project.write("src/docs/deep/x", "1")
    text = "FROM base\nCOPY --exclude=*.md --exclude=docs src /src\nCOPY --exclude=*.md src/* /all/\n"
    first = project.build(text)
    assert first.image.history[-2].created_by == "COPY src /src # pybuild"
    project.write("src/notes.md", "2")
    project.write("src/new.md", "new")
    assert project.build(text).outcomes == ["cached", "cached"]
    project.write("src/docs/deep/x", "2")
    assert project.build(text).outcomes == ["cached", "ran"]
    project.write("src/main.c", "2")
    assert project.build(text).outcomes == ["ran", "ran"]
    assert project.build(text.replace("--exclude=docs ", "")).outcomes == ["ran", "ran"]
    without = "FROM base\nCOPY src/main.c /src/\n"
    project.build(without)
    assert project.build(without).outcomes == ["cached"]


def test_of_a_stage(project: Project) -> None:
    text = """\
FROM base
RUN mkdir -p /lib/a && touch /lib/a/x.so /lib/a/x.a /lib/y.a
FROM base
COPY --from=0 --exclude=**/*.a /lib /lib
"""
    outcome = project.build(text)
    assert set(project.files(outcome, "lib")) == {"lib", "lib/a", "lib/a/x.so"}
    assert project.build(text).outcomes == ["cached", "cached"]


def test_what_is_unpacked_is_sifted_too_and_an_archive_may_be_left_out_itself(project: Project) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("keep", "docs/one", "docs/two"):
            tar.addfile(tarfile.TarInfo(name))
    project.write("a.tar", out.getvalue())
    project.write("b.txt", "b")
    text = "FROM base\nADD --exclude=docs --exclude=*.gz a.tar /x/\nADD --exclude=*.tar *.t* /y/\n"
    outcome = project.build(text)
    assert set(project.files(outcome, "x/")) == {"x/keep"}
    assert set(project.files(outcome, "y/")) == {"y/b.txt"}
