"""What holds for every recipe that parses: made up whole, with all that the language has."""

from __future__ import annotations

from collections import Counter

from hypothesis import find, given, settings

from builder.errors import BuildError
from cache.errors import FormatError
from grammar.ast import Command, Instruction, Recipe, Word
from grammar.encode import dump, load
from grammar.errors import RecipeError
from grammar.format import format_source
from grammar.lexer import KEYWORDS
from grammar.lint import lint
from grammar.meaning import narrowed
from grammar.node import Node
from grammar.parser import parse
from grammar.recover import read
from grammar.source import Source, Span
from tests.golden_fixtures.planned import planned
from tests.recipe_fixtures.strategies import recipes

SHORT = ("src", "dst", "rw", "target=.", "target=/x", "from=a,target=/x")
"""Options of mounts, and mounts without a type."""


def bare(value: object) -> object:
    """A tree without places, and without the texts that it was made of. Of a script the blanks between words
    count as one."""
    if isinstance(value, Command) and value.shell:
        value = value.replace(args=(narrowed(value.args[0]),))
    if isinstance(value, tuple):
        return tuple(bare(item) for item in value)
    if not isinstance(value, Node):
        return value
    fields = zip(value.__match_args__, value.values(), strict=True)
    dropped = ("text",) if isinstance(value, Instruction) else ()
    kept = tuple(bare(each) for name, each in fields if name not in dropped and not isinstance(each, Span))
    return type(value), kept


def without_returns(value: object) -> object:
    """A tree whose heredocs have lost the CRs that they keep."""
    if isinstance(value, tuple):
        return tuple(without_returns(item) for item in value)
    if isinstance(value, Node):
        return type(value)(*(without_returns(field) for field in value.values()))
    return value.replace("\r\n", "\n") if isinstance(value, str) else value


def nodes(value: object) -> list[Node]:
    below = value.values() if isinstance(value, Node) else value if isinstance(value, tuple) else ()
    return ([value] if isinstance(value, Node) else []) + [node for each in below for node in nodes(each)]


def test_what_is_made_up_has_everything() -> None:
    """The strategy itself: each instruction, and the rarer things, come up."""
    for keyword in sorted(KEYWORDS - {"FROM"}):
        find(recipes(), lambda text, keyword=keyword: any(  # type: ignore[misc]
            getattr(node, "keyword", "") == keyword for node in nodes(parse(Source("f", text)))
        ), settings=settings(max_examples=5000))  # fmt: skip
    for piece in ("\r\n", "<<-'", "`\n", "\ufeff", "\\\n  # a comment\n", "--exclude=", '["a b"'):
        find(recipes(), lambda text, piece=piece: piece in text, settings=settings(max_examples=5000))  # type: ignore[misc]


@settings(max_examples=100)
@given(recipes())
def test_it_is_read_as_parsed_and_survives_encoding(text: str) -> None:
    source = Source("f", text)
    recipe = parse(source)
    reading = read(source)
    assert reading.errors == ()
    assert reading.recipe == recipe
    assert load(dump(recipe)) == recipe


@settings(max_examples=100)
@given(recipes())
def test_each_place_has_what_it_is_the_place_of(text: str) -> None:
    """A word's place on one line, cut out of the text, is the word; an instruction's begins with its
    keyword.
    """
    source = Source("f", text)
    lines = source.lines
    for node in nodes(parse(source)):
        if isinstance(node, Instruction):
            span = node.span
            assert lines[span.line - 1][span.column - 1 :].upper().startswith(node.keyword)
        elif isinstance(node, Word) and node.span.line == node.span.end_line:
            span = node.span
            cut = lines[span.line - 1][span.column - 1 : span.end_column - 1]
            # A flag's value has lost its quotes, a string of JSON its escapes; `src` and `dst` have got their
            # names.
            assert node.text == cut or cut.startswith(("--", '"')) or cut in SHORT, (node, cut)


@settings(max_examples=100)
@given(recipes())
def test_formatting_keeps_the_tree_and_the_comments_and_is_done_once(text: str) -> None:
    source = Source("f", text)
    result = format_source(source)
    before, after = parse(source), parse(Source("f", result))
    assert bare(after) == bare(before)
    assert format_source(Source("f", result)) == result
    comments = [Counter(line.strip() for line in each.lines if line.strip().startswith("#")) for each in
                (source, Source("f", result))]  # fmt: skip
    assert comments[0] == comments[1]


@settings(max_examples=100)
@given(recipes())
def test_line_ends_of_windows_mean_the_same(text: str) -> None:
    unix = text.replace("\r\n", "\n")
    windows = parse(Source("f", unix.replace("\n", "\r\n")))
    assert without_returns(windows) == parse(Source("f", unix))


@settings(max_examples=100)
@given(recipes())
def test_it_is_planned_the_same_way_each_time_or_refused(text: str) -> None:
    def outcome(recipe: Recipe) -> object:
        try:
            return planned(recipe)
        except (BuildError, RecipeError, FormatError) as error:
            return error.code, error.message

    recipe = parse(Source("f", text))
    assert outcome(recipe) == outcome(load(dump(recipe)))
    assert all(each.severity != "error" for each in lint(Source("f", text)))
