"""The linter as a whole: all mistakes in one run, places, and what is left out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.ast import Fragment
from grammar.diagnostics import Diagnostic
from grammar.errors import RecipeError
from grammar.lexer import KEYWORDS
from grammar.lint import Options, lint, parse_directive
from grammar.parser import parse, parse_fragment
from grammar.recover import MOST, read
from grammar.reports import as_json, as_sarif, as_text
from grammar.source import Source, Span


def check(text: str, options: Options | None = None, name: str = "Dockerfile") -> list[tuple[str, int, int]]:
    return [(each.rule, each.span.line, each.span.column) for each in lint(Source(name, text), options)]


def rules(text: str, name: str = "Dockerfile") -> list[str]:
    return [each.rule for each in lint(Source(name, text))]


def test_every_syntax_error_is_told_in_one_run() -> None:
    text = "RUN x\nFROM debian:12\nCOPPY a b\nRUN --mont=x y\nEXPOSE 99999\nUSER\nCMD a\n"
    assert check(text) == [
        ("recipe/no-stage", 1, 1),
        ("recipe/unknown-instruction", 3, 1),
        ("recipe/unknown-flag", 4, 5),
        ("recipe/port", 5, 8),
        ("recipe/syntax", 6, 5),
        ("JSONArgsRecommended", 7, 1),
    ]


def test_an_open_heredoc_is_one_mistake_not_one_for_each_line_of_it() -> None:
    assert check("FROM debian:12\nRUN <<EOF\nfoo\nbar\n") == [("recipe/heredoc", 2, 5)]


def test_a_recipe_that_is_none_does_not_flood() -> None:
    found = lint(Source("Dockerfile", "lorem ipsum\n" * 5000))
    assert len(found) == MOST


def test_an_empty_recipe_and_one_without_stages_are_told() -> None:
    assert rules("") == ["recipe/empty"]
    assert rules("ARG a=b\n") == ["recipe/empty"]


def test_rules_that_need_the_whole_recipe_wait_for_its_errors() -> None:
    assert rules("FROM scratch\nENV A=1 B\nCOPY $C /x\n") == ["recipe/syntax"]
    assert rules("FROM scratch\nCOPY $C /x\n") == ["UndefinedVar"]


def test_a_file_called_rec_without_from_is_a_fragment() -> None:
    assert rules("ARG A\nRUN make $A\nUSER root\n", "part.rec") == []
    assert rules("RUN make\n", "Dockerfile") == ["recipe/no-stage"]
    assert rules("RUNN make\n", "part.rec") == ["recipe/unknown-instruction"]


def test_places_are_those_of_the_command_within_a_continued_instruction() -> None:
    text = "FROM debian:12\nRUN set -e; \\\n  # a comment\n  sudo \\\n   make\n"
    (found,) = lint(Source("Dockerfile", text))
    assert found.rule == "SudoUsed"
    assert (found.span.line, found.span.column, found.span.end_line, found.span.end_column) == (4, 3, 5, 8)


def test_places_are_those_of_the_line_within_a_heredoc() -> None:
    text = "FROM debian:12\nRUN <<-EOF\n\tset -e\n\tsudo make\n\tEOF\n"
    (found,) = lint(Source("Dockerfile", text))
    assert (found.span.line, found.span.column, found.span.end_line, found.span.end_column) == (4, 2, 4, 11)


def test_exec_form_and_scripts_in_it_are_looked_at() -> None:
    assert rules('FROM debian:12\nRUN ["sudo", "make"]\n') == ["SudoUsed"]
    assert rules('FROM debian:12\nRUN ["sh", "-c", "a | b"]\n') == ["PipeWithoutPipefail"]
    assert rules('FROM debian:12\nRUN ["bash", "-o", "pipefail", "-c", "a | b"]\n') == []


def test_what_another_shell_reads_is_left_alone() -> None:
    windows = 'FROM debian:12 AS a\nSHELL ["powershell", "-Command"]\n'
    text = windows + "RUN a | b; sudo c\nFROM a\nRUN a | b; sudo c\n"
    assert rules(text) == []
    assert rules("FROM debian:12\nRUN <<EOF\n#!/usr/bin/env python3\nsudo = 1; sudo | 2\nEOF\n") == []


def test_an_inline_comment_skips_for_the_instruction_below_it() -> None:
    text = "FROM debian:12\n# pybuild: skip=SudoUsed\n# why\nRUN sudo \\\n  a | b\nRUN sudo c\n"
    assert check(text) == [("PipeWithoutPipefail", 5, 7), ("SudoUsed", 6, 5)]
    assert check("# pybuild: skip=all\nFROM debian\nCMD a\n") == [("JSONArgsRecommended", 3, 1)]


def test_an_empty_line_parts_a_skipping_comment_from_the_instruction() -> None:
    assert rules("# pybuild: skip=BaseImageUntagged\n\nFROM debian\n") == ["BaseImageUntagged"]


def test_the_check_directive_skips_and_makes_errors_of_warnings() -> None:
    head = "# check=skip=SudoUsed,BaseImageUntagged;error=true\n"
    (found,) = lint(Source("Dockerfile", head + "FROM debian\nRUN sudo a\nCMD a\n"))
    assert (found.rule, found.severity) == ("JSONArgsRecommended", "error")
    assert rules("# check=skip=all\nFROM debian\nRUN sudo a\n") == []
    assert parse_directive("skip=A, B ; error=TRUE;experimental=all").skip == {"A", "B"}
    assert parse_directive("error=false").error is False


def test_skipping_hides_no_errors() -> None:
    assert rules("# check=skip=all\nFROM debian:12\nRUNN a\n") == ["recipe/unknown-instruction"]


def test_options_skip_and_add_rules() -> None:
    text = "# other\nARG A=12\nFROM debian:$A\nRUN sudo a\n"
    assert check(text, Options(skip=frozenset(["SudoUsed"]))) == []
    found = check(text, Options(experimental=frozenset(["all"])))
    assert found == [("InvalidDefinitionDescription", 1, 1), ("SudoUsed", 4, 5)]


def test_a_variable_is_undefined_for_sure_only_where_no_base_can_set_it() -> None:
    def severities(text: str) -> list[tuple[str, str | None]]:
        return [(each.severity, each.hint) for each in lint(Source("Dockerfile", text))]

    assert severities("FROM debian:12\nENV A=$JAVA_HOME\n")[0][0] == "info"
    assert severities("FROM scratch\nENV A=$JAVA_HOME\n")[0][0] == "warning"
    assert "in this stage" in str(severities("ARG V=1\nFROM debian:12\nENV A=$V\n")[0])
    assert "move that line" in str(severities("FROM debian:12\nENV A=$V\nARG V=1\n")[0])
    assert "ARG TARGETARCH" in str(severities("FROM debian:12\nENV A=$TARGETARCH\n")[0])
    assert severities("FROM debian:12\nENV A=${X:-1} B=$PATH C='$X' D=\\$X\n") == []
    assert severities("FROM debian:12 AS a\nARG V=1\nFROM a\nENV A=$V\n") == []
    assert severities("FROM debian:12\nCOPY <<E <<'F' /\n$V\nE\n$W\nF\n")[0][0] == "info"


CLEANUP = "rm -rf /var/lib/apt/lists/*"


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (f"apt-get update && A=x apt-get -qy install --no-install-recommends a=1 && {CLEANUP}", []),
        (
            f"apt-get update; apt-get install -y ./a.deb && {CLEANUP}",
            ["FailureIgnored", "AptNoInstallRecommends"],
        ),
        ("set -ex; a; b", []),
        ("a; echo done", ["FailureIgnored"]),
        ("if a; then b; fi; c", []),
        ("for x in 1 2; do a; done", []),
        ("echo x | tee y", []),
        ("if a | grep -q b; then c; fi", []),
        ("set -o pipefail && a | b", []),
        ("python3 -m pip install --no-cache-dir 'a>=1'", ["PipPinVersions"]),
        ("pip install --no-cache-dir -r r.txt -e . git+https://x/y@v1", []),
        ("npm install", []),
        ("npm install --prefix /x @a/b c@1", ["NpmPinVersions"]),
        ("apk add --no-cache --virtual .deps gcc=1", []),
        ("wget -q x && curl y", ["WgetAndCurl"]),
        ("useradd -lu 1000000 a && useradd -u 100000 b", ["UseraddWithoutNoLogInit"]),
    ],
)  # fmt: skip
def test_a_run(run: str, expected: list[str]) -> None:
    assert rules(f"FROM debian:12\nRUN {run}\n") == expected


def place(error: RecipeError) -> tuple[object, ...]:
    return error.code, error.message, error.span


PIECES = st.sampled_from(
    [
        *sorted(KEYWORDS),
        *" \t\n=\\$'\"[",
        *("\n", "\n", "a=b", " <<E", "\nE\n", "--from=x", '["a", "b"]', " AS x"),
    ]
)
TEXTS = st.lists(PIECES, max_size=25).map("".join)


@settings(max_examples=1000)
@given(TEXTS | TEXTS.map("FROM scratch\n{}".format) | TEXTS.map("FROM a\nRUN x\n{}".format))
def test_reading_on_agrees_with_parsing(text: str) -> None:
    source = Source("f", text)
    for fragment, function in ((False, parse), (True, parse_fragment)):
        reading = read(source, fragment=fragment)
        try:
            tree = function(source)
        except RecipeError as error:
            assert place(error) in [place(each) for each in reading.errors]
        else:
            assert reading.errors == ()
            assert reading.recipe is not None
            if isinstance(tree, Fragment):
                assert reading.recipe.stages[0].instructions == tree.instructions
            else:
                assert reading.recipe == tree


@settings(max_examples=300)
@given(TEXTS.map("FROM scratch\n{}".format) | TEXTS.map("FROM a\nRUN x | y\n{}".format))
def test_any_text_is_linted_and_every_place_is_in_it(text: str) -> None:
    source = Source("f", text)
    lines = source.lines
    for each in lint(source, Options(experimental=frozenset(["all"]), ignored=lambda path: len(path) > 2)):
        assert 1 <= each.span.line <= each.span.end_line <= len(lines)
        assert 1 <= each.span.column <= len(lines[each.span.line - 1]) + 1


FOUND = [
    Diagnostic("SudoUsed", "warning", "m\x1b[2J", Span("d f", 2, 5, 2, 11), "h"),
    Diagnostic("recipe/syntax", "error", "n", Span("d f", 2, 1, 2, 5)),
]


def test_the_text_report_has_excerpts_and_counts_and_acts_upon_no_terminal() -> None:
    text = as_text(FOUND, [Source("d f", "FROM a:1\nRUN sudo x\n")])
    assert text == (
        "d f:2:5: warning: m?[2J [SudoUsed]\n    2 | RUN sudo x\n      |     ^^^^^^\n  hint: h\n"
        "d f:2:1: error: n [recipe/syntax]\n    2 | RUN sudo x\n      | ^^^^\n1 error, 1 warning"
    )
    assert as_text([], []) == ""


def test_the_json_report_has_every_field() -> None:
    first = json.loads(as_json(FOUND))["diagnostics"][0]
    assert first == {
        "rule": "SudoUsed",
        "severity": "warning",
        "message": "m\x1b[2J",
        "hint": "h",
        "file": "d f",
        "line": 2,
        "column": 5,
        "end_line": 2,
        "end_column": 11,
    }


def test_the_sarif_report_names_rules_levels_and_places() -> None:
    log = json.loads(as_sarif(FOUND, "1.2.3"))
    run = log["runs"][0]
    assert log["version"] == "2.1.0"
    assert run["tool"]["driver"]["semanticVersion"] == "1.2.3"
    declared = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert [declared[each["ruleIndex"]] for each in run["results"]] == ["SudoUsed", "recipe/syntax"]
    assert [each["level"] for each in run["results"]] == ["warning", "error"]
    location = run["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "d%20f"
    assert location["region"] == {"startLine": 2, "startColumn": 5, "endLine": 2, "endColumn": 11}
