"""Text to nodes: what a recipe's author writes, and what planning sees of it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from grammar import ast, construct, lexer
from grammar.ast import Recipe, Word
from grammar.errors import RecipeError
from grammar.lines import LONGEST
from grammar.parser import decode, parse, parse_fragment, parse_trigger
from grammar.source import Source, Span


def recipe(text: str) -> Recipe:
    return parse(Source("Dockerfile", text))


def instructions(text: str) -> tuple[ast.Instruction, ...]:
    """The instructions of a stage that consists of `text`."""
    return recipe("FROM scratch\n" + text).stages[-1].instructions


def refusal(text: str | bytes) -> RecipeError:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(RecipeError) as caught:
        parse(decode("Dockerfile", data))
    return caught.value


def source_text(text: str, span: Span) -> str:
    """What stands at `span`, which is on one line."""
    assert span.line == span.end_line
    return text.split("\n")[span.line - 1][span.column - 1 : span.end_column - 1]


def words(value: object) -> list[Word]:
    """All words below a node."""
    if isinstance(value, Word):
        return [value]
    fields = value.values() if isinstance(value, ast.Node) else value if isinstance(value, tuple) else ()
    return [word for field in fields for word in words(field)]


def test_each_instruction_of_the_tree_has_a_rule_and_a_keyword() -> None:
    grammar = (Path(lexer.__file__).parent / "recipe.lark").read_text()
    rules = set(re.findall(r"^\??([a-z_]+):", grammar, re.MULTILINE))
    classes = [
        cls for _name, cls in inspect.getmembers(ast, inspect.isclass) if issubclass(cls, ast.Instruction)
    ]
    keywords = {cls.keyword for cls in classes if cls is not ast.Instruction}
    assert keywords == lexer.KEYWORDS
    assert {keyword.lower() for keyword in keywords} - {"from"} <= rules
    for name in rules - {"instruction", "triggered"}:
        assert name.endswith("_flag") or hasattr(construct.Constructor, name), name


def test_each_flag_belongs_to_an_instruction() -> None:
    grammar = (Path(lexer.__file__).parent / "recipe.lark").read_text()
    rules = "\n".join(line for line in grammar.splitlines() if not line.startswith(("%", "//")))
    assert [terminal for terminal in lexer.FLAGS.values() if terminal not in rules] == []


def test_every_word_knows_its_place() -> None:
    text = (
        "ARG V=1\n"
        "  FROM --platform=linux/amd64 debian:$V AS base\n"
        "ENV A=1 B='x y'\n"
        "RUN --mount=type=cache,target=/c,id=$A true\n"
        'COPY --from=image --chown=1:2 a "b" /c/\n'
        'VOLUME ["/a", "/b"]\n'
        "EXPOSE 80/tcp 81\n"
        "USER  app \n"
    )
    found = words(recipe(text))
    assert len(found) == 23
    for word in found:
        assert source_text(text, word.span) in (word.text, f'"{word.text}"')


def test_a_word_on_a_continued_line_has_its_own_place() -> None:
    (copy,) = instructions("COPY one \\\n  # comment\n\n    two \\\n  /three/\n")
    assert isinstance(copy, ast.Copy)
    assert [word.span for word in words(copy)] == [
        Span("Dockerfile", 2, 6, 2, 9),
        Span("Dockerfile", 5, 5, 5, 8),
        Span("Dockerfile", 6, 3, 6, 10),
    ]
    assert copy.span == Span("Dockerfile", 2, 1, 6, 10)
    assert copy.text == "one     two   /three/"


def test_a_word_across_lines_spans_them() -> None:
    (copy,) = instructions("COPY lo\\\nng /x\n")
    assert isinstance(copy, ast.Copy)
    assert copy.sources == (Word("long", Span("Dockerfile", 2, 6, 3, 3)),)


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\ \t\nb", "a b"),
        ("RUN a \\\n# c\nb", "a b"),
        ("RUN a \\\n   # c\n\n\n \t\nb", "a b"),
        ("RUN a \\\r\n\r\n# c\r\n b\r\n", "a  b"),
        ("RUN a \\", "a"),
        ("RUN a \\\n", "a"),
        ("RUN a \\\\", "a \\\\"),
        ("RUN a \\\n\\\nb", "a b"),
        ("RUN a # no comment", "a # no comment"),
        ("\\\nRUN a", "a"),
        ("run\\\n\\\n a", "a"),
        ("R\\\nUN a", "a"),
    ],
)
def test_continued_lines_are_joined_as_buildkit_joins_them(text: str, joined: str) -> None:
    assert [instruction.text for instruction in instructions(text)] == [joined]


def test_the_escape_directive_changes_continuation() -> None:
    assert [
        i.text for i in recipe("# escape=`\nFROM x\nRUN a `\n b\nRUN c \\\nRUN d").stages[0].instructions
    ] == [
        "a  b",
        "c \\",
        "d",
    ]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("# syntax=a/b:1\n# ESCAPE = `\n#check=skip=all\n", ast.Directives("a/b:1", "`", "skip=all")),
        ("#   syntax   =   docker/dockerfile:1   \n", ast.Directives("docker/dockerfile:1")),
        ("\ufeff# escape=`\n", ast.Directives(None, "`")),
        ("  # escape=`\r\n", ast.Directives(None, "`")),
        ("\n# escape=`\n", ast.Directives()),
        ("# comment\n# escape=`\n", ast.Directives()),
        ("# unknown=1\n# escape=`\n", ast.Directives()),
        ("#!/usr/bin/env pybuild\n# escape=`\n", ast.Directives()),
        ("# syntax=1\n\n# escape=`\n", ast.Directives("1")),
        ("# escape=\n", ast.Directives()),
    ],
)
def test_directives_stand_at_the_top_only(head: str, expected: ast.Directives) -> None:
    assert recipe(head + "FROM scratch\n").directives == expected


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ('["a", "b c"]', ("a", "b c")),
        ('  [ "a" , "b" ]  ', ("a", "b")),
        ("[]", ()),
        ('["\\u00e9\\n\\"\\\\"]', ('é\n"\\',)),
        ('["\\ud83d\\ude00"]', ("😀",)),
        ('["\\ud800"]', ("\ufffd",)),
    ],
)
def test_a_json_array_is_the_exec_form(text: str, args: tuple[str, ...]) -> None:
    (cmd,) = instructions("CMD " + text)
    assert isinstance(cmd, ast.Cmd)
    assert cmd.command == ast.Command(False, args)


@pytest.mark.parametrize(
    "text",
    [
        "['a']",
        '["a"] b',
        '["a",]',
        '["a" "b"]',
        '["a"',
        "[ -f x ]",
        '["a\\x"]',
        '["a\tb"]',
        "[NaN]",
        "[" * 50_000,
        '{"a": 1}',
        '"a"',
    ],
)
def test_what_is_no_json_array_is_the_shell_form(text: str) -> None:
    (cmd,) = instructions("CMD " + text)
    assert isinstance(cmd, ast.Cmd)
    assert cmd.command == ast.Command(True, (text,))


@pytest.mark.parametrize(
    "text", ["[1]", '["a", null]', "[[]]", '[{"a": "b"}]', "[1e999]", "[" + "9" * 10_000 + "]"]
)
def test_a_json_array_of_anything_else_is_an_error(text: str) -> None:
    assert refusal("FROM x\nCMD " + text).code == "recipe/json"


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("<<A", ["A"]),
        ("<<-A", ["A"]),
        ("<< A", ["A"]),
        ("<< -A", ["-A"]),
        ("4<<A", ["A"]),
        ("<<A <<B", ["A", "B"]),
        ("cat <<'A' | tr a b 3<<\"B\"", ["A", "B"]),
        ("<<$A", ["$A"]),
        ("<<'one two'", ["one two"]),
        ("<<a\\'b", ["a'b"]),
        ("'<<A'", []),
        ('"<<A"', []),
        ("x<<A", []),
        ("<<", []),
        ("<<-", []),
        ("<<<A", []),
        ("it's <<A", []),
        ("$((1<<2))", []),
    ],
)
def test_heredoc_markers_are_whole_unquoted_words(line: str, names: list[str]) -> None:
    bodies = "".join(f"body of {name}\n{name}\n" for name in names)
    (run,) = instructions(f"RUN {line}\n{bodies}")
    assert isinstance(run, ast.Run)
    assert [(doc.name, doc.body) for doc in run.command.heredocs] == [(n, f"body of {n}\n") for n in names]
    assert run.command.args == (line,)


def test_a_heredoc_that_is_the_whole_command_is_a_script() -> None:
    (run,) = instructions("RUN <<-EOF\n\t#!/bin/awk -f\n\t\tx\n\tEOF\n")
    assert isinstance(run, ast.Run)
    assert run.command.alone
    assert run.command.heredocs[0].body == "\t#!/bin/awk -f\n\t\tx\n"
    assert run.command.script == "#!/bin/awk -f\nx\n"


def test_other_heredocs_are_handed_to_the_shell_as_they_are() -> None:
    (run,) = instructions("RUN cat <<A >x && cat 3<<-'B'\na\nA\n\tb\n\tB\n")
    assert isinstance(run, ast.Run)
    assert not run.command.alone
    assert run.command.script == "cat <<A >x && cat 3<<-'B'\na\nA\n\tb\nB"


def test_a_heredoc_body_may_hold_anything() -> None:
    body = "FROM nowhere\n# comment\n\\\n<<EOF\n\n EOF\nEOF \n\x0cEOF\n"
    (copy,) = instructions(f"COPY <<EOF /x\n{body}EOF\n")
    assert isinstance(copy, ast.Copy)
    assert copy.heredocs[0].body == body
    assert copy.heredocs[0].span == Span("Dockerfile", 3, 1, 11, 4)


@pytest.mark.parametrize(
    ("marker", "expand"), [("<<E", True), ("<<'E'", False), ('<<"E"', False), ("<<-'E'", False)]
)
def test_a_quoted_delimiter_stops_expansion(marker: str, expand: bool) -> None:
    (copy,) = instructions(f"COPY {marker} /x\n$a\nE\n")
    assert isinstance(copy, ast.Copy)
    assert copy.heredocs[0].expand is expand


def test_the_trigger_of_an_image_parses_like_the_instruction_it_was() -> None:
    for line in ("RUN make", "COPY --chown=1 . /app", "RUN <<EOF\necho $a\nEOF", "ENV A=1", 'CMD ["x"]'):
        (onbuild,) = instructions(f"ONBUILD {line}\n")
        assert isinstance(onbuild, ast.Onbuild)
        assert onbuild.expression == line
        trigger = parse_trigger(Source("Dockerfile", onbuild.expression))
        assert type(trigger) is type(onbuild.trigger)
        assert trigger.text == onbuild.trigger.text


@pytest.mark.parametrize("text", ["", "ONBUILD RUN x", "FROM x", "RUN a\nRUN b", "MAINTAINER x"])
def test_what_cannot_be_a_trigger_is_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        parse_trigger(Source("image", text))


def test_a_fragment_has_no_from() -> None:
    fragment = parse_fragment(Source("f.rec", "# escape=`\nARG A\nRUN a `\n b\n"))
    assert [instruction.text for instruction in fragment.instructions] == ["A", "a  b"]
    assert fragment.directives.escape == "`"
    assert parse_fragment(Source("f.rec", "")).instructions == ()
    with pytest.raises(RecipeError, match="a fragment has no FROM"):
        parse_fragment(Source("f.rec", "RUN a\nFROM x\n"))


def test_stages_are_counted_and_named_in_lower_case() -> None:
    stages = recipe("FROM a AS One\nFROM b\nFROM c as two.x-y_z\n").stages
    assert [(stage.index, stage.name) for stage in stages] == [(0, "one"), (1, None), (2, "two.x-y_z")]
    assert recipe("FROM as AS as").stages[0].name == "as"


def test_arguments_before_from_are_global() -> None:
    parsed = recipe("ARG A=1 B\nARG C\nFROM $A\nARG A\n")
    assert [[pair.key.text for pair in arg.pairs] for arg in parsed.global_args] == [["A", "B"], ["C"]]
    assert len(parsed.stages[0].instructions) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"FROM x\0",
        b"\0",
        b"\x7fELF\x02\x01\x01\0\0",
        b"FROM x\nRUN \xff\xfe",
        b"\xff\xfeF\0R\0O\0M\0",
        b"\x89PNG\r\n",
    ],
)
def test_binary_data_is_refused_with_its_place(data: bytes) -> None:
    error = refusal(data)
    assert error.code == "recipe/not-text"
    assert error.span is not None
    assert error.hint


def test_the_place_of_a_bad_byte_is_counted_in_characters() -> None:
    assert refusal("FROM x\n# é ".encode() + b"\xff").span == Span("Dockerfile", 2, 5, 2, 6)


def test_an_endless_recipe_is_refused() -> None:
    assert refusal("FROM x\n#" + "x" * LONGEST).code == "recipe/too-large"


@pytest.mark.parametrize(
    "text",
    [
        "RUN echo \\\n" + " a \\\n" * 200_000 + " b",
        "RUN echo \\\n" + "# c\n" * 200_000 + " b",
        "RUN echo \\\n" + " a \\\n" * 100_000 + " <<EOF\nEOF",
        "COPY <<EOF /x\n" + "x\n" * 500_000 + "EOF",
        "RUN " + " ".join(f"<<E{n}" for n in range(5000)) + "\n" + "".join(f"E{n}\n" for n in range(5000)),
        "ENV " + " ".join(f"a{n}='b c'" for n in range(20_000)),
        "RUN [" + ",".join(['"a"'] * 50_000) + "]",
        "RUN " + "--mount=type=tmpfs,target=/x " * 3000 + "true",
        "LABEL a=" + "x" * 1_000_000,
        "ENV a=" + "${a:-" * 50_000,
        "RUN echo " + "\\" * 100_001 + "\n",
        "RUN true\n" * 5000,
    ],
    ids=lambda text: text[:20].strip(),
)
def test_a_huge_recipe_is_parsed_in_linear_time(text: str) -> None:
    # There is no clock here: what grows with the square of these sizes would not come to an end.
    assert instructions(text)


def test_thousands_of_stages_need_no_stack() -> None:
    text = "FROM scratch AS s0\n" + "".join(
        f"FROM s{n - 1} AS s{n}\nCOPY --from=s{n - 1} a b\n" for n in range(1, 3000)
    )
    assert len(recipe(text).stages) == 3000
    assert refusal(text + "FROM s2999 AS x\nCOPY --from=x a b\n").code == "recipe/cycle"


@pytest.mark.parametrize(
    "text",
    ["FROM x\nRUN " + '"' * 100_001, "FROM x\nENV a=" + "'" * 100_001, "a" * 100_000, "FROM " + "=" * 9999],
)
def test_nonsense_is_answered_shortly(text: str) -> None:
    try:
        recipe(text)
    except RecipeError as error:
        assert len(error.message) < 200
        assert len(error.hint or "") < 200


def test_later_stages_may_be_copied_from() -> None:
    recipe("FROM x AS a\nCOPY --from=b /x /y\nCOPY --from=2 /x /y\nFROM x AS b\nFROM x\n")


def test_an_unknown_name_after_from_is_left_to_planning() -> None:
    recipe("FROM nobody/knows\nCOPY --from=alpine:3 /x /y\nRUN --mount=from=ctx,target=/x true\n")
