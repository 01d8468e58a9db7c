"""Go's pattern languages: filepath.Match for COPY, moby's patternmatcher for ignore files."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder.patterns import IgnoreRules, glob, has_wildcard, read_ignore_file

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


# Ignore files: against a matcher that tries every way to match, and every directory above.


def naive(pattern: str, path: str) -> bool:
    """Whether a cleaned pattern without classes matches a whole path, by trying everything."""
    if not pattern:
        return not path
    if pattern.startswith("**"):
        rest = pattern[3:] if pattern[2:3] == "/" else pattern[2:]
        if not rest:
            return True
        ends = [0] + [i + 1 for i, char in enumerate(path) if char == "/"]
        return any(naive(rest, path[end:]) for end in ends)
    if pattern[0] == "*":
        return naive(pattern[1:], path) or (path[:1] not in ("", "/") and naive(pattern, path[1:]))
    if pattern[0] == "?":
        return path[:1] not in ("", "/") and naive(pattern[1:], path[1:])
    if pattern[0] == "\\":
        return path[:1] == pattern[1] and naive(pattern[2:], path[1:])
    return path[:1] == pattern[0] and naive(pattern[1:], path[1:])


def naive_ignores(patterns: list[str], path: str) -> bool:
    """The last pattern that matches the path, or a directory above it, decides."""
    parts = path.split("/")
    prefixes = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    ignored = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        plain_suffix = wanted.startswith("**") and len(wanted) > 2 and not set("*?\\") & set(wanted[2:])
        for prefix in prefixes:
            matched = naive(wanted, prefix)
            if plain_suffix and wanted[2] != "/":
                matched = prefix.endswith(wanted[2:])
            if matched:
                ignored = not pattern.startswith("!")
    return ignored


PIECES = ("a", "b", "ab", "*", "?", "**", "a*", "*b", "a?", "**a", "b**", ".a", "\\a", "\\*", "a.b")
names = st.lists(st.sampled_from(("a", "b", "ab", "ba", ".a", "a.b", "*")), min_size=1, max_size=4).map(
    "/".join
)
patterns = st.builds(
    lambda mark, pieces: mark + "/".join(pieces),
    st.sampled_from(("", "", "!")),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3),
)


@given(st.lists(patterns, max_size=5), st.lists(names, min_size=1, max_size=5))
@example(["**a"], ["ba", "b/ba"])
@example(["**/a"], ["ba", "b/a", "a"])
@example(["*", "!a/b", "a/b/a"], ["a", "a/b", "a/b/a", "a/b/b"])
def test_ignore_rules_say_what_a_naive_matcher_says(rules: list[str], paths: list[str]) -> None:
    compiled = IgnoreRules(rules)
    for path in paths:
        assert compiled.ignores(path) == naive_ignores(rules, path), (rules, path)


@given(st.text(max_size=30), names)
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
