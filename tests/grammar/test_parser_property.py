"""Parsing anything: a tree that can be trusted, or a RecipeError."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import ast
from grammar.encode import dump, load
from grammar.errors import RecipeError, render
from grammar.lexer import FLAGS, KEYWORDS
from grammar.node import Node
from grammar.parser import decode, parse, parse_fragment
from grammar.source import Source, Span

PIECES = st.sampled_from(
    [
        *sorted(KEYWORDS),
        *sorted(FLAGS),
        *(
            " ",
            " ",
            " ",
            "\t",
            "\n",
            "\n",
            "\\\n",
            "\r\n",
            " \\ \n",
            "#",
            "# c\n",
            "=",
            "=x",
            "a=b",
            "$a",
            "${a:-b}",
        ),
        *(
            "<<EOF",
            "<<-'E F'",
            "EOF\n",
            "\nEOF\n",
            '["a", "b"]',
            "[",
            "]",
            '"',
            "'",
            "\\",
            "`",
            "--",
            ",",
            "AS",
            "NONE",
        ),
        *(
            "type=cache,target=/x",
            "1s",
            "80/tcp",
            "scratch",
            "./a.rec#b",
            "mmdebstrap://x",
            "true",
            "é",
            "\ufeff",
            "\u2028",
        ),
        *("# escape=`\n", "# syntax=a\n"),
    ]
)
JUMBLE = st.lists(PIECES, max_size=40).map("".join)
LINES = st.lists(
    st.builds("{} {}\n".format, st.sampled_from(sorted(KEYWORDS)), st.lists(PIECES, max_size=6).map("".join)),
    max_size=5,
).map("".join)
TEXTS = (
    JUMBLE | LINES | LINES.map("FROM scratch\n{}".format) | JUMBLE.map("FROM scratch\n{}".format) | st.text()
)


def check_node(node: object, lines: list[str]) -> None:
    """All that is below `node` stands within the text."""
    if isinstance(node, Span):
        assert 1 <= node.line <= node.end_line <= len(lines)
        assert 1 <= node.column <= len(lines[node.line - 1]) + 1
        assert 1 <= node.end_column <= len(lines[node.end_line - 1]) + 2
        assert (node.line, node.column) <= (node.end_line, node.end_column)
    elif isinstance(node, Node):
        for value in node.values():
            check_node(value, lines)
    elif isinstance(node, tuple):
        for value in node:
            check_node(value, lines)


@settings(max_examples=2000, deadline=None)
@given(TEXTS)
def test_any_text_is_parsed_or_refused_with_a_place_in_it(text: str) -> None:
    source = Source("f", text)
    for function in (parse, parse_fragment):
        try:
            tree = function(source)
        except RecipeError as error:
            assert error.code.startswith("recipe/")
            assert error.code != "recipe/error"
            check_node(error.span, source.lines)
            assert render(error, source)
        else:
            check_node(tree, source.lines)
            assert load(dump(tree)) == tree


@settings(max_examples=500, deadline=None)
@given(st.binary())
def test_any_bytes_are_a_text_or_refused(data: bytes) -> None:
    try:
        source = decode("f", data)
    except RecipeError as error:
        assert error.code == "recipe/not-text"
    else:
        assert source.text.encode() == data


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text("abc $'\"xyz=/-", min_size=1).filter(str.strip), min_size=1, max_size=5),
    st.sampled_from([" ", "\t ", ""]),
)
def test_continuation_changes_nothing_but_the_blanks_that_it_brings(parts: list[str], indent: str) -> None:
    joined = ("x" + indent).join(part.strip("#") for part in parts)
    split = f"x\\\n{indent}".join(part.strip("#") for part in parts)
    # A continued line of blanks is left out, and one that begins with # is a comment: neither is made here.
    (one,) = parse(Source("f", f"FROM scratch\nRUN x{joined}x")).stages[0].instructions
    (many,) = parse(Source("f", f"FROM scratch\nRUN x{split}x")).stages[0].instructions
    assert isinstance(one, ast.Run)
    assert isinstance(many, ast.Run)
    assert one.text == many.text
    assert one.command == many.command


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_line_ends_of_windows_change_nothing_outside_of_documents(text: str) -> None:
    unix = text.replace("\r", "").replace("<<", "")
    try:
        one = parse(Source("f", unix))
    except RecipeError as error:
        one = error.code
    try:
        other = parse(Source("f", unix.replace("\n", "\r\n")))
    except RecipeError as error:
        other = error.code
    assert one == other
