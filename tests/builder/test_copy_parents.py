"""COPY --parents: sources keep their directories (the Dockerfile reference, and BuildKit's own tests of
it).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import PlanError
from builder.patterns import IgnoreRules
from tests.build_fixtures.copying import OLD, Copying
from tests.build_fixtures.project import Project


@pytest.fixture
def copying(tmp_path: Path) -> Copying:
    found = Copying(str(tmp_path))
    for name in ("c/d/foo", "c/d/e/bay", "c2/d/e/baz", "c2/d/e2/baz"):
        found.write(f"a/b/{name}", name)
    found.write("a/b2/c/d/e/bar", "bar")
    found.write("x/a.txt", "1")
    found.write("x/y/b.txt", "2")
    found.write("x/y/c.md", "3")
    return found


def copied(copying: Copying, line: str, **options: object) -> list[str]:
    """Return which files there are after a line was carried out, and the empty directories."""
    copying.copy(line, **options)  # type: ignore[arg-type]
    found = copying.files()
    return [
        path
        for path, what in sorted(found.items())
        if not what.startswith("dir") or not any(other.startswith(path + "/") for other in found)
    ]


def refused(copying: Copying, line: str) -> PlanError:
    with pytest.raises(PlanError) as caught:
        copying.copy(line)
    return caught.value


# As BuildKit's testCopyParents, testCopyRelativeParents and testCopyParentsMissingDirectory have them.
CASES = {
    "a/b/c/d/foo /out": ["out/a/b/c/d/foo"],
    "./x/a.txt ./x/y/b.txt /out/": ["out/x/a.txt", "out/x/y/b.txt"],
    "a/b/./c/d /out/": ["out/c/d/e/bay", "out/c/d/foo"],
    "/a/b/c/d/. /out/": ["out/a/b/c/d/e/bay", "out/a/b/c/d/foo"],
    "./a/b/c/d /out/": ["out/a/b/c/d/e/bay", "out/a/b/c/d/foo"],
    "a/./b/./c /out/": ["out/b/c/d/e/bay", "out/b/c/d/foo"],
    "a/./*/c /out/": ["out/b/c/d/e/bay", "out/b/c/d/foo", "out/b2/c/d/e/bar"],
    "a/b*/./c/**/e /out/": ["out/c/d/e/bar", "out/c/d/e/bay"],
    "a/b/c*/./d/**/baz a/b*/./c/**/bar /out/": ["out/c/d/e/bar", "out/d/e/baz", "out/d/e2/baz"],
    "a/b3*/c /out/": ["out"],
    "a/b/./c3* /out/": ["out"],
    "none*/./c /out/": [],
    "x/./y/*.txt /out/": ["out/y/b.txt"],
    "x/**/*.txt /out/": ["out/x/a.txt", "out/x/y/b.txt"],
    "**/*.md /out/": ["out/x/y/c.md"],
    "**/e*/ba[yr] /out/": ["out/a/b/c/d/e/bay", "out/a/b2/c/d/e/bar"],
    "../../x/../x/a.txt /out": ["out/x/a.txt"],
    "x/y/./b.txt /": ["b.txt"],
    "x/./. /out": ["out/a.txt", "out/y/b.txt", "out/y/c.md"],
}


@pytest.mark.parametrize("words", CASES)
def test_which_directories_are_kept(copying: Copying, words: str) -> None:
    assert copied(copying, f"COPY --parents {words}") == CASES[words]


def test_the_whole_context(copying: Copying) -> None:
    copying.copy("COPY --parents . /parents")
    copying.copy("COPY . /plain")
    without = {path.removeprefix("plain"): what for path, what in copying.files("plain").items()}
    assert {path.removeprefix("parents"): what for path, what in copying.files("parents").items()} == without


def test_the_destination_is_always_a_directory(copying: Copying) -> None:
    copying.write("file", "old", below=copying.root)
    assert copied(copying, "COPY --parents x/a.txt sub", workdir="/w") == ["file", "w/sub/x/a.txt"]
    assert refused(copying, "COPY --parents x/a.txt /file").code == "copy/onto-file"


def test_parents_are_made_as_they_are_in_the_source(copying: Copying) -> None:
    """Modes, times and attributes of those that are made; and owners, from a stage."""
    for path, mode in {"x": 0o2750, "x/y": 0o700}.items():
        full = f"{copying.context}/{path}"
        os.chown(full, 5, 6)
        os.chmod(full, mode)
        os.setxattr(full, "user.note", path.encode())
    for path in ("x/y", "x"):
        os.utime(f"{copying.context}/{path}", (OLD, OLD))
    copying.copy("COPY --parents x/y/b.txt x/a.txt /out/", owners=True)
    copying.copy("COPY --parents x/y/b.txt /context/")
    copying.copy("COPY --parents --chown=3:4 x/y/*.txt /owned/")
    found = copying.files()
    assert (found["out"], found["out/x"], found["out/x/y"]) == ("dir 755", "dir 2750 5:6", "dir 700 5:6")
    assert (found["context/x"], found["context/x/y"]) == ("dir 2750", "dir 700")
    assert (found["owned"], found["owned/x"], found["owned/x/y/b.txt"]) == (
        "dir 755 3:4",
        "dir 2750 3:4",
        "'2' 644 3:4",
    )
    for path in ("out/x", "out/x/y", "owned/x/y"):
        assert copying.stat(path).st_mtime == OLD
        assert os.getxattr(f"{copying.upper}/{path}", "user.note").decode() == path.partition("/")[2]


def test_chmod_is_for_the_parents_that_are_made_from_a_source_but_not_for_those_of_the_destination(
    copying: Copying,
) -> None:
    copying.copy("COPY --parents --chmod=700 x/y/b.txt /out/deep/")
    found = copying.files()
    assert [found[path] for path in ("out", "out/deep", "out/deep/x", "out/deep/x/y")] == [
        "dir 755",
        "dir 755",
        "dir 700",
        "dir 700",
    ]
    assert found["out/deep/x/y/b.txt"] == "'2' 700"


def test_a_parent_that_is_there_takes_the_mode_and_keeps_the_rest(copying: Copying) -> None:
    """What is named is another thing: a directory takes all that the source's has."""
    os.chmod(f"{copying.context}/x", 0o750)
    for name in ("one/x/y", "two/x/y"):
        os.makedirs(f"{copying.root}/{name}")
        os.setxattr(f"{copying.root}/{name[:5]}", "user.kept", b"1")
        os.chown(f"{copying.root}/{name[:5]}", 8, 9)
        os.chown(f"{copying.root}/{name}", 8, 9)
    copying.copy("COPY --parents --chmod=711 x/y/b.txt /one/")
    copying.copy("COPY --parents x/y /two/")
    found = copying.files()
    assert (found["one/x"], found["one/x/y"]) == ("dir 750 8:9", "dir 755 8:9")
    assert (found["two/x"], found["two/x/y"]) == ("dir 750 8:9", "dir 755")


def test_no_directory_replaces_what_is_in_its_way(copying: Copying) -> None:
    copying.write("one/x", "file", below=copying.root)
    os.makedirs(f"{copying.root}/two/real")
    os.symlink("real", f"{copying.root}/two/x")
    for line in ("COPY --parents x/a.txt /one/", "COPY --parents x/*.txt /two/", "COPY --parents x/y /one/"):
        assert refused(copying, line).code == "copy/onto-file"


def test_links_on_the_way_are_followed_within_the_tree_and_become_directories(copying: Copying) -> None:
    """Up to the first wildcard. A link that is named itself, or matched, stays one."""
    os.symlink("x", f"{copying.context}/link")
    os.symlink("../../../../x/y", f"{copying.context}/a/up")
    os.symlink("a.txt", f"{copying.context}/x/alias")
    os.symlink("/etc", f"{copying.context}/away")
    os.chmod(f"{copying.context}/x", 0o711)
    assert copied(copying, "COPY --parents link/y/b.txt link/a* a/up/*.md /out/") == [
        "out/a/up/c.md",
        "out/link/a.txt",
        "out/link/alias",
        "out/link/y/b.txt",
    ]
    assert copying.files()["out/link"] == "dir 711"
    copying.copy("COPY --parents link x/alias /links/")
    assert copying.files("links/") == {
        "links/link": "-> x",
        "links/x": "dir 711",
        "links/x/alias": "-> a.txt",
    }
    assert copied(copying, "COPY --parents l*k/a.txt /wild/")[-1] == "wild"
    assert refused(copying, "COPY --parents away/passwd /out/").code == "copy/missing"


def test_what_is_missing_or_ignored(copying: Copying) -> None:
    for source in ("nothing", "x/none.txt", "none/./x", "x/a.txt/b", "x/a.txt/./b"):
        assert refused(copying, f"COPY --parents {source} /out/").code == "copy/missing"
    with pytest.raises(PlanError) as caught:
        copying.copy("COPY --parents x/a.txt /out/", rules=("x",))
    assert caught.value.code == "copy/ignored"
    assert refused(copying, "COPY --parents x/[a /out/").code == "copy/pattern"
    assert copied(copying, "COPY --parents **/*.txt /out/", rules=("x", "!x/y/b.txt")) == ["out/x/y/b.txt"]
    os.symlink("x", f"{copying.context}/link")
    with pytest.raises(PlanError) as caught:
        copying.copy("COPY --parents link/a.txt /out/", rules=("link",))
    assert caught.value.code == "copy/ignored"


def test_excluded_paths_are_relative_to_where_the_directories_begin(copying: Copying) -> None:
    assert copied(copying, "COPY --parents --exclude=x/y/*.md x /one/")[-2:] == [
        "one/x/a.txt",
        "one/x/y/b.txt",
    ]
    assert copied(copying, "COPY --parents --exclude=y/*.md --exclude=a* x/./* /two/")[-1] == "two/y/b.txt"
    assert copied(copying, "COPY --parents --exclude=x x/y/b.txt /three/")[-1] != "three/x/y/b.txt"
    assert copied(copying, "COPY --parents --exclude=x --exclude=!x/y/b.txt x /four/")[0] == "four/x/y/b.txt"


def test_hard_links_stay_linked(copying: Copying) -> None:
    os.link(f"{copying.context}/x/a.txt", f"{copying.context}/x/y/linked.txt")
    copying.copy("COPY --parents x/**/*.txt /out/")
    assert copying.stat("out/x/a.txt").st_ino == copying.stat("out/x/y/linked.txt").st_ino


def test_a_directory_that_a_wildcard_passes_over_is_not_looked_at(copying: Copying) -> None:
    """What is in it cannot matter, so a build need not remember it."""
    tree = copying.tree()
    tree.select("x/*/b.txt", parents=True)
    assert "x/y" in tree.seen
    assert not any(path.startswith("a") for path in tree.seen)
    tree.close()


PARTS = ("a", "b", "*", "**", "?", "[ab]")


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4))
def test_a_walk_finds_what_matches_with_the_directories_above_it(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    """Against each path asked alone, by the matcher of ignore files."""
    if not set(parts) & {"*", "**", "?", "[ab]"}:
        parts = [*parts, "*"]
    copying = _small(tmp_path_factory)
    rules = IgnoreRules(["/".join(parts)])
    matching = set()
    for directory, names, files in os.walk(copying.context):
        for name in (*names, *files):
            path = os.path.relpath(os.path.join(directory, name), copying.context)
            if rules.ignores(path):
                above = path.split("/")
                matching |= {"/".join(above[:depth]) for depth in range(1, len(above) + 1)}
    tree = copying.tree()
    try:
        (found,) = tree.select("/".join(parts), parents=True)
    finally:
        tree.close()
    plain = [path for path, _ in found.above]
    assert {*plain, *(entry.path for entry in found.entries)} - {""} == matching | (
        set(plain) if matching else set()
    )


_SMALL: list[Copying] = []


def _small(factory: pytest.TempPathFactory) -> Copying:
    if not _SMALL:
        found = Copying(str(factory.mktemp("small")))
        for name in ("a/a/x", "a/b/a/x", "a/b/c", "b/a", "b/b/b", "c/a", "x"):
            found.write(name, name)
        os.makedirs(f"{found.context}/c/b/empty")
        _SMALL.append(found)
    return _SMALL[0]


def test_the_key_is_of_what_is_taken(project: Project) -> None:
    """A file that no pattern takes changes nothing; the mode of a parent does; and so does the flag."""
    project.write("x/y/b.txt", "1")
    project.write("x/other", "1")
    text = "FROM base\nCOPY --parents x/**/*.txt /out/\n"
    first = project.build(text)
    assert first.image.history[-1].created_by == "COPY --parents x/**/*.txt /out/ # pybuild"
    project.write("x/other", "2")
    assert project.build(text).outcomes == ["cached"]
    os.chmod(project.path("x"), 0o700)
    assert project.build(text).outcomes == ["ran"]
    project.write("x/y/b.txt", "2")
    assert project.build(text).outcomes == ["ran"]
    assert project.build("FROM base\nCOPY --parents x /out/\n").outcomes == ["ran"]
    assert project.build("FROM base\nCOPY x /out/\n").outcomes == ["ran"]


def test_of_a_stage_and_as_a_layer_of_its_own(project: Project) -> None:
    text = """\
FROM base
RUN mkdir -p /opt/app/lib && chown 5:6 /opt/app && chmod 2775 /opt/app && echo x > /opt/app/lib/x.so
FROM base
RUN mkdir -m 700 /opt
COPY --link --parents --from=0 /opt/./app/**/*.so /opt/app/lib /opt/
"""
    outcome = project.build(text)
    assert project.layer(outcome) == [
        "opt",
        "opt/app",
        "opt/app/lib",
        "opt/app/lib/x.so",
        "opt/opt",
        "opt/opt/app",
        "opt/opt/app/lib",
        "opt/opt/app/lib/x.so",
    ]
    status = project.files(outcome)["opt/app"]
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (5, 6, 0o2775)
    assert project.build(text).outcomes == ["cached"] * 3
