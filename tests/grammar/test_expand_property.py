"""Expansion against a shell, and against anything."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grammar.errors import RecipeError
from grammar.expand import expand, expand_document, expand_words, split_raw

ENV = {"a": "", "b": "x.y.z", "c": "two words", "d": "a*b?c", "e": "/usr/local/lib"}
NAMES = st.sampled_from([*ENV, "unset"])
PLAIN = st.text("abcxyz019 ./:,+-_", max_size=6)
PATTERN = st.text("ab.xyz/*?", max_size=5)


def _operator(words: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    defaults = st.builds("${{{}{}{}}}".format, NAMES, st.sampled_from([":-", "-", ":+", "+"]), words)
    trims = st.builds(
        "${{{}{}{}}}".format, NAMES, st.sampled_from(["#", "##", "%", "%%"]), PATTERN.filter(_no_operator)
    )
    return defaults | trims


def _no_operator(pattern: str) -> bool:
    return not pattern.startswith(("#", "%"))


QUOTED = st.builds(
    '"{}"'.format,
    st.lists(PLAIN | NAMES.map("${{{}}}".format) | st.sampled_from(['\\"', "\\$", "\\\\"])).map("".join),
)
SIMPLE = (
    PLAIN.map(lambda text: text.replace(" ", "\\ "))
    | st.sampled_from(["\\$", '\\"', "\\'", "\\\\", "''", '""'])
    | st.builds("'{}'".format, st.text('abc $"\\{}', max_size=5))
    | QUOTED
    | NAMES.map("${{{}}}".format)
)
# In double quotes too; there the shell keeps single quotes within an operator, and a Dockerfile does not.
INNER = PLAIN | NAMES.map("${{{}}}".format) | st.sampled_from(['\\"', "\\$", "\\\\"])
INNER_OPERATOR = st.builds("${{{}{}{}}}".format, NAMES, st.sampled_from([":-", "-", ":+", "+"]), INNER)
DOUBLE = st.builds('"{}"'.format, st.lists(INNER | INNER_OPERATOR, max_size=4).map("".join))
# Without braces a name ends where no letter, digit or _ follows.
UNBRACED = st.builds("${}{}".format, NAMES, st.sampled_from([".", "/", "-", ":", "=", "'x'", '"y"', "\\z"]))
NUMBERS = st.sampled_from(["$1", "${2}", "$@", "$*", "$.", "$%", "${1:-none}"])
SIMPLE = SIMPLE | DOUBLE | UNBRACED | NUMBERS
WORDS = st.recursive(
    st.lists(SIMPLE, max_size=5).map("".join),
    lambda words: st.lists(SIMPLE | _operator(words), max_size=4).map("".join),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(WORDS, min_size=1, max_size=8))
def test_expansion_agrees_with_dash_on_what_both_know(words: list[str]) -> None:
    # An assignment neither splits nor globs, as a Dockerfile's word is neither split nor globbed.
    script = "".join(f"x={word}\nprintf '%s\\0' \"$x\"\n" for word in words)
    shell = subprocess.run(["dash", "-c", script], env=ENV, capture_output=True, check=True, timeout=60)
    assert [expand(word, ENV.get) for word in words] == shell.stdout.decode().split("\0")[:-1]


REQUIRED = st.builds(
    "{}${{{}{}{}}}{}".format,
    PLAIN.map(lambda text: text.replace(" ", "")),
    NAMES,
    st.sampled_from([":?", "?"]),
    st.sampled_from(["", "message", "${b}", "'a b'"]),
    st.sampled_from(["", "x", "$b"]),
)


@settings(max_examples=150)
@given(st.lists(REQUIRED, min_size=1, max_size=8))
def test_a_required_variable_is_missed_where_dash_misses_it(words: list[str]) -> None:
    script = "".join(
        f"(x={word}\nprintf '%s' \"$x\") 2>/dev/null || printf FAILED\nprintf '\\0'\n" for word in words
    )
    shell = subprocess.run(["dash", "-c", script], env=ENV, capture_output=True, check=True, timeout=60)

    def ours(word: str) -> str:
        try:
            return expand(word, ENV.get)
        except RecipeError as error:
            assert error.code == "recipe/expansion"
            return "FAILED"

    assert [ours(word) for word in words] == shell.stdout.decode().split("\0")[:-1]


UNCLOSED = ["${", "${a", '"x', "'x", '"${a', "${a:-", '${a:-"x', "${a:-'x}", "${a#", "${a:-${b}"]


@pytest.mark.parametrize("word", UNCLOSED)
def test_what_dash_takes_for_unclosed_is_refused(word: str) -> None:
    """And so is what only a Dockerfile cannot have; see test_expand.py."""
    shell = subprocess.run(["dash", "-c", f"x={word}"], env=ENV, capture_output=True, timeout=60)
    assert shell.returncode != 0
    with pytest.raises(RecipeError):
        expand(word, ENV.get)


ANYTHING = st.text(st.sampled_from("ab$${}{}::-+?#%/*\\'\"<< \n\t`1@é\u00a0")) | st.text()


@settings(max_examples=1000, deadline=None)
@given(ANYTHING, st.sampled_from("\\`"), st.dictionaries(st.text("ab1@", min_size=1, max_size=2), ANYTHING))
def test_any_text_expands_or_is_refused_with_a_recipe_error(
    text: str, escape: str, env: dict[str, str]
) -> None:
    for function in (expand, expand_words):
        try:
            function(text, env.get, escape=escape)
        except RecipeError as error:
            assert error.code == "recipe/expansion"
    try:
        expand_document(text, env.get)
    except RecipeError as error:
        assert error.code == "recipe/expansion"


@settings(max_examples=500, deadline=None)
@given(ANYTHING)
def test_raw_words_are_pieces_of_the_line_in_order(line: str) -> None:
    end = 0
    for text, start, after in split_raw(line):
        assert end <= start < after <= len(line)
        assert text
        end = after


@given(st.text("abc./-_ =:,@é"))
def test_text_without_anything_special_stays_as_it_is(text: str) -> None:
    assert expand(text, ENV.get) == text
    assert expand_words(text, ENV.get) == text.split()
