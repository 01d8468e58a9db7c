"""INCLUDE: fragments come into the places of the instructions that name them; circles and floods are
refused.
"""

from __future__ import annotations

import posixpath

import pytest

from grammar.ast import Fragment, Include, Recipe, Run
from grammar.encode import dump, load
from grammar.errors import RecipeError, render
from grammar.includes import DEEPEST, MOST, Files, link, spliced
from grammar.parser import parse, parse_fragment
from grammar.source import Source


def linked(files: dict[str, str], name: str = "app.rec", read: list[str] | None = None) -> Recipe:
    """Link the recipe `name` of `files`; `read` collects which fragments are read."""

    def fragment(path: str) -> Fragment:
        if read is not None:
            read.append(path)
        return parse_fragment(Source(path, files[path]))

    def locate(includer: str, path: str) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(includer), path))

    return link(parse(Source(name, files[name])), Files(locate, lambda path: path, fragment))


def runs(recipe: Recipe) -> list[str]:
    return [each.text for each in spliced(recipe.stages[-1].instructions) if isinstance(each, Run)]


def failure(files: dict[str, str]) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        linked(files)
    return caught.value


def test_fragments_stand_where_they_are_included_and_paths_are_those_of_each_file() -> None:
    files = {
        "app.rec": "FROM x\nRUN 1\nINCLUDE lib/a.rec\nRUN 5",
        "lib/a.rec": "RUN 2\nINCLUDE deep/b.rec\nINCLUDE '../top\\er.rec'",
        "lib/deep/b.rec": "RUN 3",
        "top\\er.rec": "RUN 4",
    }
    assert runs(linked(files)) == ["1", "2", "3", "4", "5"]


def test_a_recipe_without_include_is_left_as_it_is() -> None:
    recipe = parse(Source("r", "FROM x\nRUN 1"))
    assert link(recipe, Files(None, None, None)) is recipe  # type: ignore[arg-type]


def test_each_place_in_a_fragment_tells_who_included_it() -> None:
    files = {
        "app.rec": "FROM x\nINCLUDE a.rec\nINCLUDE a.rec",
        "a.rec": "# one\nINCLUDE b.rec",
        "b.rec": "RUN --mount=type=tmpfs,target=/x y",
    }
    once, twice = [each for each in spliced(linked(files).stages[0].instructions) if isinstance(each, Run)]
    chains = [[(at.file, at.line) for at in each.span.chain] for each in (once, twice)]
    assert chains == [[("a.rec", 2), ("app.rec", 2)], [("a.rec", 2), ("app.rec", 3)]]
    assert once.span.plain == twice.span.plain
    assert (once.span.file, once.span.line) == ("b.rec", 1)
    assert once.mounts[0].span.chain == once.span.chain


def test_a_linked_tree_is_not_what_is_remembered() -> None:
    recipe = parse(Source("app.rec", "FROM x\nINCLUDE a.rec A=1"))
    assert load(dump(recipe)) == recipe
    (include,) = recipe.stages[0].instructions
    assert isinstance(include, Include)
    assert include.fragment is None


def test_a_circle_is_shown_and_the_file_is_not_read_again() -> None:
    files = {
        "app.rec": "FROM x\nINCLUDE a.rec",
        "a.rec": "RUN 1\nINCLUDE lib/b.rec",
        "lib/b.rec": "INCLUDE ../a.rec",
    }
    error = failure(files)
    assert error.code == "include/cycle"
    assert error.message == "files include each other in a circle: a.rec -> lib/b.rec -> a.rec"
    assert render(error, Source("lib/b.rec", files["lib/b.rec"])).endswith(
        "  at lib/b.rec:1:1\n1 | INCLUDE ../a.rec\n  | ^^^^^^^^^^^^^^^^\n"
        "  included from a.rec:2\n  included from app.rec:2"
    )


def test_the_recipe_itself_cannot_be_included() -> None:
    error = failure({"app.rec": "FROM x\nINCLUDE ./app.rec"})
    assert (error.code, error.message) == (
        "include/cycle",
        "files include each other in a circle: app.rec -> app.rec",
    )


def test_the_same_fragment_twice_is_no_circle() -> None:
    files = {"app.rec": "FROM x\nINCLUDE a.rec\nFROM y\nINCLUDE a.rec\nINCLUDE a.rec", "a.rec": "RUN 1"}
    assert runs(linked(files)) == ["1", "1"]


def test_includes_are_bounded_in_depth_and_in_number() -> None:
    deep = {f"{n}.rec": f"INCLUDE {n + 1}.rec" for n in range(DEEPEST + 1)}
    deep |= {"app.rec": "FROM x\nINCLUDE 0.rec", f"{DEEPEST + 1}.rec": "RUN 1"}
    assert failure(deep).code == "include/limit"
    assert failure(deep).message == f"app.rec: more than {DEEPEST} nested INCLUDEs"
    allowed = deep | {f"{DEEPEST - 1}.rec": "RUN 1"}
    assert runs(linked(allowed)) == ["1"]
    # Each includes the next one twice: two to the power of their number.
    flood = {f"{n}.rec": f"INCLUDE {n + 1}.rec\n" * 2 for n in range(DEEPEST - 1)}
    flood |= {"app.rec": "FROM x\nINCLUDE 0.rec", f"{DEEPEST - 1}.rec": "RUN 1"}
    assert failure(flood).message == f"app.rec: more than {MOST} INCLUDEs"


def test_a_mistake_in_a_fragment_is_shown_there_with_who_included_it() -> None:
    files = {"app.rec": "FROM x\nINCLUDE a.rec", "a.rec": "INCLUDE b.rec", "b.rec": "RUN 1\nRUNN 2"}
    error = failure(files)
    assert error.span is not None
    assert (error.code, error.span.file, error.span.line) == ("recipe/unknown-instruction", "b.rec", 2)
    assert [(at.file, at.line) for at in error.span.chain] == [("a.rec", 1), ("app.rec", 2)]


def test_a_fragment_has_no_from() -> None:
    error = failure({"app.rec": "FROM x\nINCLUDE a.rec", "a.rec": "FROM y\nRUN 1"})
    assert error.code == "recipe/fragment"
    assert error.hint is not None
    assert "FROM ./other.rec" in error.hint


@pytest.mark.parametrize(
    ("fragment", "hint"),
    [
        ("ARG VERSION", "Did you mean VERSION?"),
        ("ARG A=1 B\nARG A", "its ARGs: A, B"),
        ("RUN 1\nINCLUDE deeper.rec", "it has no ARG at all"),
    ],
)
def test_a_value_for_what_is_no_arg_of_the_fragment_is_refused(fragment: str, hint: str) -> None:
    files = {
        "app.rec": "FROM x\nINCLUDE lib/a.rec VERSON=1",
        "lib/a.rec": fragment,
        "lib/deeper.rec": "ARG VERSON",
    }
    error = failure(files)
    assert (error.code, error.message, error.hint) == (
        "include/argument",
        "lib/a.rec has no ARG VERSON",
        hint,
    )
    assert error.span is not None
    assert (error.span.file, error.span.line, error.span.column) == ("app.rec", 2, 19)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("INCLUDE $x.rec", "INCLUDE takes no variable in its path"),
        ("INCLUDE a.rec A=1 B=2 A=3", "INCLUDE gives A twice"),
        ('INCLUDE ""', "INCLUDE: the path is empty"),
    ],
)
def test_what_include_does_not_take(line: str, message: str) -> None:
    error = failure({"app.rec": f"FROM x\n{line}", "a.rec": "ARG A B"})
    assert (error.code, error.message) == ("recipe/include", message)


def test_a_quoted_path_is_read_with_the_escape_character_of_its_own_file() -> None:
    files = {
        "app.rec": "# escape=`\nFROM x\nINCLUDE a` b.rec",
        "a b.rec": 'INCLUDE c\\ d.rec\nINCLUDE "e f.rec"',
        "c d.rec": "RUN 1",
        "e f.rec": "RUN 2",
    }
    assert runs(linked(files)) == ["1", "2"]


def test_a_file_is_read_before_what_it_includes_and_in_order() -> None:
    read: list[str] = []
    files = {
        "app.rec": "FROM x\nINCLUDE a.rec\nINCLUDE c.rec",
        "a.rec": "INCLUDE b.rec",
        "b.rec": "",
        "c.rec": "",
    }
    linked(files, read=read)
    assert read == ["a.rec", "b.rec", "c.rec"]
