"""Expansion of words: BuildKit's rules, one by one."""

from __future__ import annotations

import pytest

from grammar.errors import RecipeError
from grammar.expand import DEPTH, LIMIT, expand, expand_document, expand_words, split_raw
from grammar.source import Span

ENV = {
    "PWD": "/home",
    "SHELL": "bash",
    "KOREAN": "한국어",
    "NULL": "",
    "P": "a.tar.gz",
    "S": "/usr/local/lib",
}

WORDS = [
    ("", ""),
    ("hello", "hello"),
    ("he'll'o", "hello"),
    ('he"ll"o', "hello"),
    ("a 'b  c' d", "a b  c d"),
    ("he\\'llo", "he'llo"),
    ("he\\\\llo", "he\\llo"),
    ("he\\llo\\", "hello"),
    # In double quotes the escape is one before ", $ and itself only.
    ('"a\\"b"', 'a"b'),
    ('"a\\$PWD"', "a$PWD"),
    ('"a\\\\b"', "a\\b"),
    ('"a\\b\\n"', "a\\b\\n"),
    ('"it\'s"', "it's"),
    # Single quotes stop everything.
    ("'$PWD ${PWD} \\a \"'", '$PWD ${PWD} \\a "'),
    ("he$PWD", "he/home"),
    ("he$PWDx", "he"),
    ("he${PWD}x", "he/homex"),
    ('"$PWD"', "/home"),
    ("$KOREAN", "한국어"),
    ("안녕${KOREAN}", "안녕한국어"),
    ("$", "$"),
    ("$.", "$."),
    ("a$ b", "a$ b"),
    ("$1", ""),
    ("$1x", "x"),
    ("$12x", "x"),
    ("$@", ""),
    ("$*$#$?$-$$$!", ""),
    ("${1}", ""),
    ("${@}", ""),
    ("$NOPE", ""),
    ("\\$PWD", "$PWD"),
    ("\\${PWD}", "${PWD}"),
    ("\\\\$PWD", "\\/home"),
    ("${NOPE:-w}", "w"),
    ("${NOPE-w}", "w"),
    ("${NULL:-w}", "w"),
    ("${NULL-w}", ""),
    ("${PWD:-w}", "/home"),
    ("${PWD:+w}", "w"),
    ("${PWD+w}", "w"),
    ("${NULL:+w}", ""),
    ("${NULL+w}", "w"),
    ("${NOPE:+w}", ""),
    ("${NOPE+w}", ""),
    ("${PWD:?m}", "/home"),
    ("${NULL?m}", ""),
    ("${NOPE:-}", ""),
    ("${NOPE:-two words}", "two words"),
    ("${NOPE:-'$PWD'}", "$PWD"),
    ('${NOPE:-"$PWD"}', "/home"),
    ("${NOPE:-\\}}", "}"),
    ("${NOPE:-${NULL:-${PWD}}}", "/home"),
    ("${PWD:+${PWD}${SHELL}}", "/homebash"),
    ("\"${NOPE:-'a'}\"", "a"),
    ("${P#*.}", "tar.gz"),
    ("${P##*.}", "gz"),
    ("${P%.*}", "a.tar"),
    ("${P%%.*}", "a"),
    ("${P#a}", ".tar.gz"),
    ("${P#b}", "a.tar.gz"),
    ("${P%.??}", "a.tar"),
    ("${P#${P%.gz}}", ".gz"),
    ("${S/local/share}", "/usr/share/lib"),
    ("${S//\\//:}", ":usr:local:lib"),
    ("${S/l*l/-}", "/usr/-ib"),
    ("${S/nope/x}", "/usr/local/lib"),
    ("${S//l}", None),
    ("${S/l/}", "/usr/ocal/lib"),
    ("${NOPE/a/b}", ""),
    ("${NOPE#a}", ""),
    ("${P:#*.}", "tar.gz"),
    ("${", None),
    ("${}", None),
    ("${:}", None),
    ("${:-x}", None),
    ("${{x}", None),
    ("${PWD", None),
    ("${PWD:-a", None),
    ("${PWD:-'a}", None),
    ("${PWD/a", None),
    ("${PWD/a/b", None),
    ("${PWD=x}", None),
    ("${PWD:=x}", None),
    ("${PWD:3}", None),
    ("${PWD^^}", None),
    ("${#PWD}", None),
    ("${ PWD}", None),
    ("${NOPE:?}", None),
    ("${NOPE?}", None),
    ("${NULL:?}", None),
    ("${P#\\a}", None),
    ("'a", None),
    ('"a', None),
    ('"${PWD"', None),
]


@pytest.mark.parametrize(("word", "expected"), WORDS)
def test_a_word_expands_as_buildkit_expands_it(word: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(RecipeError) as caught:
            expand(word, ENV.get)
        assert caught.value.code == "recipe/expansion"
    else:
        assert expand(word, ENV.get) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${NOPE:?not there}", "NOPE: not there"),
        ("${NOPE:?$SHELL is}", "NOPE: bash is"),
        ("${NOPE?}", "NOPE: is not allowed to be unset"),
        ("${NULL:?}", "NULL: is not allowed to be empty"),
        ("${PWD:=x}", "unsupported modifier (:=) in substitution"),
        ("${P#\\a}", "invalid pattern '\\\\a' in substitution: \\a is no escape"),
        ("${S/a}", "the second / is missing"),
        ("${PWD:-a", "the closing } is missing"),
    ],
)
def test_an_error_says_what_is_wrong(word: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        expand(word, ENV.get)
    assert caught.value.message == message


def test_an_error_points_into_the_word() -> None:
    with pytest.raises(RecipeError) as caught:
        expand("abc${x", ENV.get, span=Span("f", 3, 10, 3, 16))
    assert caught.value.span == Span("f", 3, 13, 3, 16)


def test_the_escape_directive_changes_the_escape() -> None:
    assert expand("c:\\x`$PWD`\\", ENV.get, escape="`") == "c:\\x$PWD\\"
    assert expand('"`"\\"', ENV.get, escape="`") == '"\\'


def test_patterns_do_not_match_across_line_ends() -> None:
    lookup = {"v": "one\ntwo\nthree"}.get
    assert expand("${v#*t}", lookup) == "one\ntwo\nthree"
    assert expand("${v##*}", lookup) == "\ntwo\nthree"
    assert expand("${v%%*}", lookup) == "one\ntwo\n"
    assert expand("${v//t*/x}", lookup) == "one\nx\nx"
    assert expand("${v/e?t/x}", lookup) == "one\ntwo\nthree"


@pytest.mark.parametrize(
    ("pattern", "replacement", "value", "expected"),
    [
        ("", "-", "xy", "-x-y-"),
        ("*", "-", "xy", "-"),
        ("x*", "-", "axbx", "a-"),
        ("x", "", "axbx", "ab"),
        ("aa", "b", "aaaaa", "bba"),
        ("a*a", "-", "xabaabaz", "x-z"),
        ("?", "--", "ab", "----"),
        ("a**b", "-", "azzb", "-"),
        ("\\*", "x", "a*b*", "axbx"),
        ("\\?", "x", "a?b", "axb"),
    ],
)
def test_replacement_of_all_matches_is_leftmost_and_longest(
    pattern: str, replacement: str, value: str, expected: str
) -> None:
    lookup = {"v": value, "p": pattern, "r": replacement}.get
    assert expand("${v//$p/$r}", lookup) == expected


def test_words_split_at_unquoted_blanks_after_expansion() -> None:
    lookup = {"ports": " 80  443 "}.get
    assert expand_words("$ports", lookup) == ["80", "443"]
    assert expand_words('"$ports"', lookup) == [" 80  443 "]
    assert expand_words("a$ports b", lookup) == ["a", "80", "443", "b"]
    assert expand_words("a${ports}b", lookup) == ["a", "80", "443", "b"]
    assert expand_words("a\\ b 'c d'e", lookup) == ["a b", "c de"]
    assert expand_words("$none", lookup) == []
    assert expand_words("", lookup) == []


def test_a_document_keeps_quotes_and_joins_lines() -> None:
    lookup = {"name": "world"}.get
    assert expand_document("'$name' \"${name}\"\n", lookup) == "'world' \"world\"\n"
    assert expand_document("\\$name \\\\ \\x\n", lookup) == "$name \\ x\n"
    assert expand_document("a\\\nb\n", lookup) == "ab\n"
    assert expand_document("a\\\r\nb\r\n", lookup) == "ab\r\n"
    # There is nothing to join after the last line (BuildKit's own test has this one).
    assert expand_document("\\\n", lookup) == "\n"
    assert expand_document("no variable", lookup) == "no variable"


def test_an_error_in_a_document_points_to_its_line() -> None:
    with pytest.raises(RecipeError) as caught:
        expand_document("fine\n  ${oops\n", {}.get, span=Span("f", 10, 1, 12, 4))
    assert caught.value.span == Span("f", 11, 3, 11, 4)


def test_raw_words_stand_where_they_were_found() -> None:
    line = "RUN a 'b c'd 3<< EOF \\'x ${y} \"<<q\" e"
    words = split_raw(line)
    assert [text for text, _start, _end in words] == [
        "RUN", "a", "'b c'd", "3<< EOF", "\\'x", "${y}", '"<<q"', "e",
    ]  # fmt: skip
    assert [line[start:end] for _text, start, end in words] == [text for text, _start, _end in words]


@pytest.mark.parametrize("line", ["RUN it's <<EOF", 'RUN "x <<EOF', "RUN ${x^^} <<EOF", "RUN ${ <<EOF"])
def test_a_line_that_the_shell_lexer_cannot_read_has_no_words(line: str) -> None:
    assert split_raw(line) == []


def test_nesting_is_bounded_without_exhausting_the_stack() -> None:
    assert expand("${a:-" * DEPTH + "x" + "}" * DEPTH, {}.get) == "x"
    for word in ("${a:-" * (DEPTH + 1) + "}" * (DEPTH + 1), "${a:-" * 100_000, '"${a:-' * 100_000):
        with pytest.raises(RecipeError, match="nested"):
            expand(word, {}.get)


def test_a_value_cannot_grow_without_bound() -> None:
    values = {"a": "x" * 1000}
    with pytest.raises(RecipeError, match="MiB"):
        for _line in range(64):
            values["a"] = expand("$a$a", values.get)
    assert len(values["a"]) <= LIMIT
    with pytest.raises(RecipeError, match="too long"):
        expand("${a//x/$a}", {"a": "x" * 10_000}.get)


def test_a_pattern_of_many_stars_takes_no_exponential_time() -> None:
    lookup = {"v": "a" * 5000}.get
    assert expand("${v#" + "*a" * 200 + "*b}", lookup) == "a" * 5000
    assert expand("${v//" + "*a" * 200 + "*b/x}", lookup) == "a" * 5000
