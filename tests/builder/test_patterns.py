"""Go's pattern languages: filepath.Match for COPY, moby's patternmatcher for ignore files."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builder.patterns import IgnoreRules, glob, has_wildcard, read_ignore_file
from tests.recipe_fixtures.patterns import BadPattern, go_match, moby_ignores

# filepath.Match: Go's own table of cases (path/filepath, match_test.go), one component each.

MATCHES = [
    ("abc", "abc", True),
    ("*", "abc", True),
    ("*c", "abc", True),
    ("a*", "a", True),
    ("a*", "abc", True),
    ("a*b*c*d*e*", "axbxcxdxe", True),
    ("a*b?c*x", "abxbbxdbxebxczzx", True),
    ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("ab[c]", "abc", True),
    ("ab[b-d]", "abc", True),
    ("ab[e-g]", "abc", False),
    ("ab[^c]", "abc", False),
    ("ab[^b-d]", "abc", False),
    ("ab[^e-g]", "abc", True),
    ("a\\*b", "a*b", True),
    ("a\\*b", "ab", False),
    ("a?b", "a☺b", True),
    ("a[^a]b", "a☺b", True),
    ("a???b", "a☺b", False),
    ("a[^a][^a][^a]b", "a☺b", False),
    ("[a-ζ]*", "α", True),
    ("*[a-ζ]", "A", False),
    ("[\\]a]", "]", True),
    ("[\\-]", "-", True),
    ("[x\\-]", "x", True),
    ("[x\\-]", "-", True),
    ("[x\\-]", "z", False),
    ("[\\-x]", "x", True),
    ("[\\-x]", "a", False),
    ("*x", "xxx", True),
    ("a**b", "axxb", True),
    ("**", "anything", True),
    ("[z-a]", "b", False),
]


@pytest.mark.parametrize(("pattern", "name", "expected"), MATCHES)
def test_a_component_matches_as_in_go(pattern: str, name: str, expected: bool) -> None:
    assert (glob(pattern).match(name) is not None) == expected


@pytest.mark.parametrize(
    "pattern", ["[]a]", "[-]", "[x-]", "[-x]", "a[", "[a-b-c]", "[", "[^", "[^bc", "a\\", "a["]
)
def test_what_go_takes_for_no_pattern_is_none(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        glob(pattern)


@pytest.mark.parametrize("pattern", ["*", "?", "[", "[^/]", "**", "\\*?", "[a/b]"])
def test_no_pattern_of_a_component_matches_a_slash(pattern: str) -> None:
    try:
        found = glob(pattern).match("/")
    except ValueError:
        return
    assert found is None


def test_what_has_a_wildcard() -> None:
    assert not any(has_wildcard(name) for name in ("plain", "a\\b", "a\\*b", "a\\[0]", "{a,b}"))
    assert all(has_wildcard(name) for name in ("*", "a?", "[a]", "\\a*", "\\\\*"))


# Ignore files, against a matcher that tries every way to match.


@given(st.text(max_size=30), st.text("ab/", min_size=1))
def test_no_text_is_too_odd_to_be_read(text: str, path: str) -> None:
    """It is rules, or it is refused as malformed."""
    try:
        rules = read_ignore_file(text)
    except ValueError:
        return
    rules.ignores(path)


IGNORED = [
    (["*.log"], "a.log", True),
    (["*.log"], "sub/a.log", False),
    (["**.log"], "sub/a.log", True),
    (["**/*.log"], "a.log", True),
    (["dir/**"], "dir", False),
    (["dir/**"], "dir/a/b", True),
    (["dir"], "dir/a/b", True),
    (["dir", "!dir/a"], "dir/a", False),
    (["dir", "!dir/a"], "dir/a/b", False),
    (["dir", "!dir/a"], "dir/b", True),
    (["*", "!src/**"], "src", True),
    (["*", "!src/**"], "src/a/b", False),
    (["!a", "a"], "a", True),
    (["a", "!a", "a/b"], "a/b", True),
    (["/a/"], "a", True),
    (["./a//b/../c"], "a/c", True),
    (["../a"], "a", False),
    (["."], "a", False),
    (["  a  "], "a", True),
    (["! a"], "a", False),
    (["a[bc]d"], "acd", True),
    (["a[^bc]d"], "acd", False),
    (["a.b+(c)|{d}$"], "a.b+(c)|{d}$", True),
    (["ä?"], "äö", True),
]


@pytest.mark.parametrize(("rules", "path", "expected"), IGNORED)
def test_what_is_ignored(rules: list[str], path: str, expected: bool) -> None:
    assert IgnoreRules(rules).ignores(path) == expected


def test_an_ignore_file_s_text() -> None:
    """A BOM, CRLF, comments and empty lines; a # that is not at the beginning is no comment."""
    rules = read_ignore_file("\ufeffone\r\n# two\r\n\r\n #three\r\n!four\r\n")
    assert [rules.ignores(path) for path in ("one", "two", "# two", "#three", "four")] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert read_ignore_file("").ignores("a") is False


@pytest.mark.parametrize("text", ["!", "! ", "a[", "a\\", "[]a]", "[a-]", "!a["])
def test_a_malformed_ignore_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_ignore_file(text)


GLOBS = st.lists(
    st.sampled_from(
        ["a", "b", "*", "?", "[ab]", "[^a]", "[a-c]", "[b-a]", "[", "]", "\\", "\\*", "-", "^", "é", "**"]
    ),
    max_size=7,
).map("".join)


@settings(max_examples=2000)
@given(GLOBS, st.text("abcé*-]^\\", max_size=6))
@example("a[", "b")
@example("[a", "")
@example("*[", "")
def test_a_component_matches_as_go_s_own_algorithm_says(pattern: str, name: str) -> None:
    try:
        expected: bool | None = go_match(pattern, name)
    except BadPattern:
        expected = None
    try:
        actual: bool | None = glob(pattern).match(name) is not None
    except ValueError:
        actual = None
    assert actual == expected


RULES = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "", "!", "! ", " "]),
    st.sampled_from(["", "", "/", "./", "a/../", "//"]),
    st.lists(
        st.sampled_from(
            [
                "a",
                "b",
                "/",
                "/",
                "*",
                "**",
                "**/",
                "/**",
                "?",
                "[ab]",
                "[^a]",
                "[a-c]",
                "\\*",
                "\\a",
                ".",
                "é",
            ]
        ),
        min_size=1,
        max_size=6,
    ).map("".join),
    st.sampled_from(["", "", "/", " "]),
)
PATHS = st.lists(st.text("ab*.é", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


@settings(max_examples=3000)
@given(st.lists(RULES, min_size=1, max_size=4), st.lists(PATHS, min_size=1, max_size=4))
@example(["**a"], ["ba", "b/ba"])
@example(["**/a"], ["ba", "b/a", "a"])
@example(["*", "!a/b", "a/b/a"], ["a", "a/b", "a/b/a", "a/b/b"])
@example(["a**b**a**b"], ["axbxaxb", "ab/ab", "a/b/a/b"])
@example(["**/a/**/b*/**/c"], ["a/x/ba/c", "a/b/b/x/c", "a/c"])
@example(["[^a]*[^b]*"], ["b/a/b", "bb"])
def test_ignore_rules_say_what_moby_s_matcher_says(rules: list[str], paths: list[str]) -> None:
    try:
        expected: list[bool] | None = [moby_ignores(rules, path) for path in paths]
    except BadPattern:
        expected = None
    try:
        compiled = IgnoreRules(rules)
        actual: list[bool] | None = [compiled.ignores(path) for path in paths]
    except ValueError:
        actual = None
    assert actual == expected


HOSTILE = [
    "**/a*/" * 20 + "b*" * 30,
    "a**b" * 20 + "c",
    "[^a]*" * 30 + "c",
    "*a" * 100 + "b",
    "**" * 50 + "x",
    "**/" * 99,
]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    # There is no clock here: what tries every way to part a path would not come to an end.
    rules = IgnoreRules([pattern])
    for path in ("a/" * 200 + "b" * 100, "ab" * 250, "b/" * 250, "a" * 500):
        assert isinstance(rules.ignores(path), bool)
    if "/" not in pattern:
        assert glob(pattern).match("a" * 254) is None
