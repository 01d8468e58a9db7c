"""The TextMate grammar, run as editors run it, says of every recipe what our own lexer says."""

from __future__ import annotations

import glob
import json
import os
import re
from typing import Any

import pytest

from grammar.ast import Heredoc
from grammar.bases import TRANSPORTS
from grammar.construct import MANAGERS
from grammar.lexer import KEYWORDS
from grammar.recover import Reading, is_fragment, read
from grammar.reference import FLAGS
from grammar.reference_values import DIRECTIVES, MOUNT_OPTIONS, MOUNT_SYNONYMS, MOUNT_TYPES
from grammar.source import BOM, Source
from tests.textmate_fixtures.tokenizer import Piece, Tokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXTENSION = os.path.join(ROOT, "grammar", "editors", "vscode")
PATH = os.path.join(EXTENSION, "syntaxes", "recipe.tmLanguage.json")
KEYWORD = "keyword.other.special-method"
FLAG = "entity.other.attribute-name.flag"

TOKENIZER = Tokenizer(PATH)
REPOSITORY: dict[str, Any] = TOKENIZER.grammar["repository"]

BEYOND = {
    "heredocs-run.Dockerfile": "delimiters with quotes or variables within them",
}
"""Recipes with what regular expressions cannot tell, and what that is."""


def recipes() -> list[str]:
    found = [*glob.glob(f"{ROOT}/tests/golden/*"), *glob.glob(f"{ROOT}/recipes/*.rec")]
    return sorted(path for path in found if path.endswith((".Dockerfile", ".rec")))


def reading_of(path: str) -> Reading | None:
    """Return what our own lexer reads; None of what is no recipe."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        source = Source(path, data.decode())
    except UnicodeDecodeError:
        return None
    reading = read(source, fragment=is_fragment(source))
    return None if reading.errors else reading


GOOD = {
    os.path.relpath(path, ROOT): reading
    for path in recipes()
    if os.path.basename(path) not in BEYOND and (reading := reading_of(path)) is not None
}


def places(lines: list[list[Piece]], scope: str) -> set[tuple[int, int]]:
    """Return where a piece with a scope begins: line and column, from 1."""
    return {
        (number, piece.start + 1)
        for number, pieces in enumerate(lines, 1)
        for piece in pieces
        if piece.scopes[-1].startswith(scope)
    }


def test_there_are_recipes_to_compare() -> None:
    assert len(GOOD) > 40


@pytest.mark.parametrize("name", GOOD)
def test_keywords_flags_comments_and_documents_are_where_the_lexer_sees_them(name: str) -> None:
    reading = GOOD[name]
    text = reading.source.text.removeprefix(BOM)
    lines = TOKENIZER.lines(text)

    keywords: set[tuple[int, int]] = set()
    flags: set[tuple[int, int]] = set()
    instruction: set[int] = set()
    bodies: set[int] = set()
    for line in reading.lines:
        instruction |= set(line.logical.numbers)
        bodies |= set(range(line.bodies, line.last + 1))
        for at, token in enumerate(line.tokens):
            place = (token.span.line, token.span.column)
            written = token.type in KEYWORDS and at < 2 and isinstance(token.value, str)
            if written or token.type in ("AS", "NONE") or (token.type == "CMD" and at):
                keywords.add(place)
            if token.flag:
                flags.add(place)
    assert places(lines, KEYWORD) == keywords
    assert places(lines, FLAG) == flags

    raw = text.split("\n")
    for number, pieces in enumerate(lines, 1):
        commented = number not in instruction | bodies and raw[number - 1].lstrip(" \t").startswith("#")
        assert all(piece.has("comment") for piece in pieces) == commented or not pieces, (number, pieces)
        assert any(piece.has("comment") for piece in pieces) == commented, (number, pieces)
        in_body = all(piece.has("meta.heredoc") for piece in pieces)
        assert not pieces or in_body == (number in bodies), (number, pieces)


@pytest.mark.parametrize("name", GOOD)
def test_json_arrays_and_markers_are_where_the_lexer_sees_them(name: str) -> None:
    reading = GOOD[name]
    lines = TOKENIZER.lines(reading.source.text.removeprefix(BOM))
    strings = {
        (token.span.line, token.span.column)
        for line in reading.lines
        for token in line.tokens
        if token.type == "STRING"
    }
    found = {
        (number, piece.start + 1)
        for number, pieces in enumerate(lines, 1)
        for before, piece in zip([None, *pieces], pieces, strict=False)
        if piece.has("string.quoted.double.json") and not (before and before.has("string.quoted.double.json"))
    }
    assert found == strings
    documents = [t for line in reading.lines for t in line.tokens if isinstance(t.value, Heredoc)]
    assert places(lines, "keyword.operator.heredoc") == {(t.span.line, t.span.column) for t in documents}


@pytest.mark.parametrize("path", recipes())
def test_what_is_no_recipe_ends_as_well(path: str) -> None:
    """The tokenizer fails where an editor would give up."""
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        text = file.read()
    lines = TOKENIZER.lines(text)
    assert ["".join(piece.text for piece in pieces) for pieces in lines] == [
        line.removesuffix("\r") for line in text.split("\n")
    ]


def scopes(text: str) -> list[list[tuple[str, str]]]:
    """Return the pieces of each line, each with its last scope."""
    return [
        [(piece.text, piece.scopes[-1].removesuffix(".recipe")) for piece in pieces if piece.text.strip()]
        for pieces in TOKENIZER.lines(text)
    ]


def test_a_hash_in_a_string_or_a_document_begins_no_comment() -> None:
    text = "FROM a\nRUN echo '# x' \"# y\" # z\nRUN <<EOF\n# the shell's\nEOF\nCOPY <<E /f\n# text\nE\n"
    for pieces in TOKENIZER.lines(text):
        assert not any(piece.has("comment") for piece in pieces)


def test_a_word_after_a_continued_line_is_no_instruction() -> None:
    lines = scopes("FROM a\nRUN echo \\\n# note\n\n  RUN b\nCOPY a \\\nFROM /\nUSER x")
    assert lines[4] == [("  RUN b", "meta.instruction.run")]
    assert lines[2] == [("#", "punctuation.definition.comment"), (" note", "comment.line.number-sign")]
    assert lines[6] == [("FROM /", "meta.instruction.copy")]
    assert lines[7][0] == ("USER", KEYWORD)


def test_an_instruction_ends_with_its_line_whatever_is_open() -> None:
    lines = scopes(
        'FROM a\nRUN echo "open\nUSER x\nENV a=\'open\nUSER x\nWORKDIR ${open\nUSER x\nCMD ["a", \\\nUSER x\n'
    )
    assert [line[0][0] for line in (lines[2], lines[4], lines[6])] == ["USER", "USER", "USER"]
    assert all(line[0][1] == KEYWORD for line in (lines[2], lines[4], lines[6]))
    assert lines[8][0][1] != KEYWORD


def test_a_document_ends_at_its_closing_line_alone() -> None:
    lines = TOKENIZER.lines("FROM a\nRUN <<-EOF\nif x; then\n EOF\nEOFX\n\tEOF\nUSER x\n")
    assert [any(p.has("meta.embedded.block.shell") for p in pieces) for pieces in lines[:7]] == [
        *[False] * 2,
        *[True] * 3,
        *[False] * 2,
    ]
    assert lines[5][-1].has("keyword.control.heredoc-token")
    assert lines[6][0].has(KEYWORD)


@pytest.mark.parametrize(
    ("first", "language"),
    [
        ("set -e", "shell"),
        ("#!/bin/bash", "shell"),
        ("#!/usr/bin/env python3", "python"),
        ("#!/usr/bin/perl -w", "perl"),
        ("#!/usr/bin/env node", "javascript"),
        ("#!/usr/bin/ruby", "ruby"),
    ],
)
def test_a_script_is_embedded_in_the_language_of_its_first_line(first: str, language: str) -> None:
    lines = TOKENIZER.lines(f"FROM a\nRUN --network=none <<EOF\n{first}\nx = 1\nEOF\n")
    for pieces in lines[2:4]:
        assert all(piece.has(f"meta.embedded.block.{language}") for piece in pieces)
    with open(os.path.join(EXTENSION, "package.json"), encoding="utf-8") as file:
        (contributed,) = json.load(file)["contributes"]["grammars"]
    assert f"meta.embedded.block.{language}.recipe" in contributed["embeddedLanguages"]


def test_variables_in_documents_follow_the_quotes_of_the_delimiter() -> None:
    lines = TOKENIZER.lines(
        "FROM a\nCOPY <<A /a\n$x ${y:-z}\nA\nCOPY <<'B' /b\n$x\nB\nRUN cat <<C | sh\n$x\nC\n"
    )
    assert [any(p.has("variable.other") for p in lines[at]) for at in (2, 5, 8)] == [True, False, True]
    assert [p.text for p in lines[2] if p.has("variable.other")] == ["$", "x", "y"]
    assert [p.text for p in lines[2] if p.has("keyword.operator.substitution")] == [":-"]
    assert all(p.has("string.unquoted.heredoc") for at in (2, 5, 8) for p in lines[at])


def test_flags_stand_before_all_else() -> None:
    lines = TOKENIZER.lines(
        "FROM a\nRUN --network=none npm --network=x\nCOPY \\\n --link a --chown=b /c\nRUN -- --mount=x\n"
    )
    found = [[p.text for p in pieces if p.has(FLAG)] for pieces in lines]
    assert found[1:5] == [["--network"], [], ["--link"], []]


def test_the_escape_directive_changes_what_continues() -> None:
    lines = scopes(
        "# syntax=a\n# escape=`\n# check=skip=all\nFROM a\nRUN b `\n  c\nCOPY C:\\a\\ C:\\b\\\nUSER x\n"
    )
    assert [line[1][0] for line in lines[:3]] == [" ", " ", " "] or all(
        line[0][1] == "punctuation.definition.comment" for line in lines[:3]
    )
    assert ("check", "keyword.other.directive") in lines[2]
    assert lines[4][-1] == ("`", "constant.character.escape.line-continuation")
    assert lines[5] == [("  c", "meta.instruction.run")]
    assert lines[7][0] == ("USER", KEYWORD)
    usual = scopes("FROM a\nRUN echo `date`\nRUN b `\nUSER x\n")
    assert [line[0] for line in usual[1:4]] == [("RUN", KEYWORD), ("RUN", KEYWORD), ("USER", KEYWORD)]


def test_directives_stand_at_the_top_alone() -> None:
    lines = TOKENIZER.lines("# syntax=a\n# check=skip=all\n# a comment\n# escape=`\nFROM a\n")
    assert [any(p.has("keyword.other.directive") for p in pieces) for pieces in lines[:4]] == [
        *[True] * 2,
        *[False] * 2,
    ]


def test_the_extension_names_files_that_there_are() -> None:
    with open(os.path.join(EXTENSION, "package.json"), encoding="utf-8") as file:
        package = json.load(file)
    contributes = package["contributes"]
    (language,), (contributed,) = contributes["languages"], contributes["grammars"]
    assert (contributed["language"], contributed["scopeName"]) == (
        language["id"],
        TOKENIZER.grammar["scopeName"],
    )
    for path in (package["main"], language["configuration"], contributed["path"]):
        assert os.path.isfile(os.path.join(EXTENSION, path)), path
    with open(os.path.join(EXTENSION, language["configuration"]), encoding="utf-8") as file:
        configuration = json.load(file)
    assert configuration["comments"] == {"lineComment": "#"}
    with open(os.path.join(EXTENSION, "extension.js"), encoding="utf-8") as file:
        code = file.read()
    assert language["id"] in code
    for name in [
        *contributes["configuration"]["properties"],
        *[c["command"] for c in contributes["commands"]],
    ]:
        assert name.removeprefix("pybuild.") in code, name


def alternatives(pattern: str) -> set[str]:
    """Return the words of the first group of alternatives in a pattern."""
    match = re.search(r"\((?:\?:|\?i:)?([A-Za-z|-]+)\)", pattern)
    assert match is not None, pattern
    return set(match[1].split("|"))


def test_it_knows_the_instructions_of_the_grammar() -> None:
    begins = [
        rule["begin"] for rule in REPOSITORY.values() if rule.get("name", "").startswith("meta.instruction.")
    ]
    assert {word for begin in begins for word in alternatives(begin)} == KEYWORDS


def test_it_knows_the_flags_of_each_instruction() -> None:
    found: dict[str, set[str]] = {}
    for rule in REPOSITORY.values():
        for phase in rule.get("patterns", ()):
            if phase.get("comment") == "Flags stand before all else.":
                (keyword,) = alternatives(rule["begin"])
                plain = next(p for p in phase["patterns"] if p.get("name") == "meta.flag.recipe")
                found[keyword] = {f"--{word}" for word in alternatives(plain["begin"])}
                if {"include": "#mount"} in phase["patterns"]:
                    found[keyword].add("--mount")
    assert found == {keyword: set(flags) for keyword, flags in FLAGS.items()}


def test_it_knows_the_options_of_mounts_and_what_else_has_a_name() -> None:
    types, options, *_ = REPOSITORY["mount"]["patterns"]
    assert set(types["match"].split("(=)(")[1].split(")")[0].split("|")) == set(MOUNT_TYPES)
    assert alternatives(options["match"]) | alternatives(types["match"]) == {
        "type",
        *MOUNT_OPTIONS,
        *MOUNT_SYNONYMS,
    }
    assert alternatives(REPOSITORY["directive"]["match"]) == set(DIRECTIVES)
    transports = next(p for p in REPOSITORY["from"]["patterns"] if "transport" in p.get("name", ""))
    assert alternatives(transports["match"]) == set(TRANSPORTS)
    managers = REPOSITORY["packages"]["patterns"][1]
    assert alternatives(managers["match"]) == set(MANAGERS)


def test_every_rule_is_used_and_every_reference_leads_somewhere() -> None:
    with open(PATH, encoding="utf-8") as file:
        text = file.read()
    names = set(re.findall(r'"include": "#([^"]+)"', text))
    assert names == set(REPOSITORY)
