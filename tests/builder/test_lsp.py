"""What the language server says of a recipe, as functions of its text. `|` in a text is the cursor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.lsp.actions import actions, formatting
from builder.lsp.completion import completions
from builder.lsp.definition import definition, occurrences
from builder.lsp.document import Document, Range, units
from builder.lsp.hover import hover
from builder.lsp.problems import documentation, page
from builder.lsp.rename import Refused, renamable, rename
from builder.lsp.structure import Symbol, folds, symbols
from grammar.format import format_source
from grammar.mounts import TYPES
from grammar.reference import FLAGS, INSTRUCTIONS
from grammar.reference_values import MOUNT_OPTIONS, MOUNT_SYNONYMS
from grammar.rules import all_rules


def at(text: str, path: str = "") -> tuple[Document, int]:
    """Return the document, and where the cursor is in it."""
    before, cursor, after = text.partition("|")
    assert cursor
    return Document(before + after, path), len(before)


def labels(text: str, path: str = "") -> list[str]:
    return [item.label for item in completions(*at(text, path))]


def completed(text: str, label: str, path: str = "") -> str:
    """Return the text after `label` was chosen at the cursor."""
    document, offset = at(text, path)
    (item,) = [item for item in completions(document, offset) if item.label == label]
    return document.text[: item.range.start] + item.text + document.text[item.range.end :]


def shown(text: str) -> str:
    found = hover(*at(text))
    return found[0] if found else ""


def target(text: str, path: str = "") -> str | None:
    """Return what stands at the definition: the line, and the text there."""
    document, offset = at(text, path)
    found = definition(document, offset)
    if found is None:
        return None
    other = found.document or document
    where = f"{other.place(found.range.start)[0]}:{other.slice(found.range)}"
    return where if found.path is None else f"{os.path.basename(found.path)}:{where}"


# Places


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_ranges_stand_where_the_text_does(mark: str, end: str) -> None:
    text = mark + end.join(["FROM a:1", "\tRUN echo '\U0001f980é' && sudo x", "  FRMO b:1", ""])
    document = Document(text)
    found = {document.slice(document.range(p.span)): document.range(p.span) for p in document.problems}
    assert set(found) == {"sudo x", "FRMO"}
    expected = {
        "utf-32": ((1, 18), (1, 24)),
        "utf-16": ((1, 19), (1, 25)),
        "utf-8": ((1, 22), (1, 28)),
    }
    for encoding, (start, stop) in expected.items():
        where = found["sudo x"]
        assert (document.position(where.start, encoding), document.position(where.end, encoding)) == (
            start,
            stop,
        )
        assert document.offset_at(*start, encoding) == where.start
        assert document.position(found["FRMO"].start, encoding) == (2, 2)
    assert document.position(document.range(document.reading.lines[0].tokens[0].span).start, "utf-16") == (
        0,
        len(mark),
    )


def test_a_lone_cr_ends_a_line_for_an_editor_but_none_of_a_recipe() -> None:
    document = Document("FROM a:1\nRUN a\rb\nRUN sudo b\n")
    (sudo,) = [p for p in document.problems if p.rule == "SudoUsed"]
    assert document.slice(document.range(sudo.span)) == "sudo b"
    assert document.position(document.range(sudo.span).start, "utf-16") == (3, 4)
    assert document.offset_at(2, 0, "utf-16") == document.text.index("b\nRUN")


def test_other_line_ends_of_unicode_end_no_line() -> None:
    document = Document("FROM a:1\nENV A='\u2028\x0b\x0c\x85'\nRUN sudo b\n")
    assert document.position(document.text.index("RUN"), "utf-16") == (2, 0)


def test_a_position_that_there_is_not_is_the_nearest_one() -> None:
    document = Document("ab\n\U0001f980\n")
    assert document.offset_at(0, 9, "utf-16") == 2
    assert document.offset_at(1, 1, "utf-16") == 3, "within a character is before it"
    assert document.offset_at(9, 0, "utf-16") == len(document.text)


TEXTS = st.text(st.characters() | st.sampled_from("\r\n\t\\\"'${}#<=- \ufeff\U0001f980"), max_size=60)


@given(TEXTS, st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_positions_and_offsets_are_each_others_inverse(text: str, encoding: str) -> None:
    document = Document(text)
    for offset in range(len(text) + 1):
        line, character = document.position(offset, encoding)
        if text[offset - 1 : offset + 1] != "\r\n":
            assert document.offset_at(line, character, encoding) == offset
    assert units(text, encoding) >= len(text)


# Problems


def said(text: str, path: str) -> list[tuple[str, str, str]]:
    document = Document(text, path)
    return [(p.rule, document.slice(document.range(p.span)), p.message) for p in document.problems]


def test_problems_of_included_files_are_shown_at_the_include_if_they_stop_the_build(tmp_path: Path) -> None:
    path = str(tmp_path / "app.rec")
    (tmp_path / "good.rec").write_text("RUN sudo x\n")
    (tmp_path / "bad.rec").write_text("RUN x\nRUNN y\n")
    (tmp_path / "loop.rec").write_text("INCLUDE app.rec\n")
    assert said("FROM a:1\nINCLUDE good.rec\n", path) == []
    assert said("FROM a:1\nINCLUDE good.rec\nINCLUDE bad.rec\n", path) == [
        ("recipe/unknown-instruction", "bad.rec", "bad.rec:2: unknown instruction: RUNN")
    ]
    ((code, where, _),) = said("FROM a:1\nINCLUDE god.rec\n", path)
    assert (code, where) == ("include/missing", "god.rec")
    assert [where for _, where, _ in said("FROM a:1\nINCLUDE good.rec\nINCLUDE loop.rec\n", path)] == [
        "loop.rec"
    ]
    (tmp_path / "app.rec").write_text("FROM a:1\nRUNN on disk\n")
    assert said("FROM a:1\nRUN as it is typed\n", path) == []


@pytest.mark.parametrize(
    "text", ["FROM a:1\nRUN \0x\n", "\0", "", "RUN x", "\ud800", "FROM a:1\nRUN \udcff\n"]
)
def test_what_is_no_recipe_has_problems_and_no_faults(text: str) -> None:
    document = Document(text)
    assert bool(document.problems) == (text != "FROM a:1\nRUN \udcff\n")


# Hover


@pytest.mark.parametrize("keyword", INSTRUCTIONS)
def test_every_instruction_is_explained(keyword: str) -> None:
    assert INSTRUCTIONS[keyword].text in shown(f"FROM a\n{keyword.lower()[:2]}|{keyword[2:]} x y\n")


@pytest.mark.parametrize(("keyword", "flag"), [(k, flag) for k, flags in FLAGS.items() for flag in flags])
def test_every_flag_is_explained(keyword: str, flag: str) -> None:
    assert FLAGS[keyword][flag].text in shown(f"FROM a\n{keyword} \\\n  {flag[:4]}|{flag[4:]}=x y\n")


@pytest.mark.parametrize("option", [*MOUNT_OPTIONS, *MOUNT_SYNONYMS])
def test_every_option_of_a_mount_is_explained(option: str) -> None:
    text = MOUNT_OPTIONS[MOUNT_SYNONYMS.get(option, option)].text
    assert text in shown(f"FROM a\nRUN --mount=type=cache,{option[:1]}|{option[1:]}=/x,id=y true\n")


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_of_mount_is_explained(kind: str) -> None:
    assert f"**{kind}** mount" in shown(f"FROM a\nRUN --mount=target=/x,type={kind}| true\n")
    assert f"- `{kind}`" in shown(f"FROM a\nRUN --mount=ty|pe={kind} true\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ARG V=1\nFROM a:$|V\n", "`1`"),
        ("ARG V=1\nFROM a\nARG V\nRUN ${|V}\n", "`1`"),
        ("ARG V=1\nFROM a\nARG V\nRUN ${|V}\n", "Its default is that of line 1"),
        ("FROM a\nENV A=x\nENV B=$A-y\nRUN $|B\n", "Value: `x-y`"),
        ("FROM a\nENV A=1\nENV A=2 B=$A\nRUN $|B\n", "Value: `1`"),
        ("FROM a\nENV A=1\nARG A=2\nRUN $|A\n", "`1`"),
        ("FROM a AS b\nENV A=1\nFROM b\nRUN $|A\n", "Line 2."),
        ("FROM a\nENV A=1\nRUN <<E\necho $|A\nE\n", "Value: `1`"),
        ("FROM a\nENV |A=1\n", "Value: `1`"),
        ("FROM a\nARG TARGETARCH\nRUN $|TARGETARCH\n", "Set by pybuild: the architecture"),
        ("FROM --platform=$BUILD|PLATFORM a\n", "the platform that the build runs on"),
        ("FROM a AS b\nFROM |b\n", "FROM a AS b"),
        ("# esc|ape=\\\nFROM a\n", "continues lines"),
        ("# check=skip=Sudo|Used\nFROM a\n", "**SudoUsed** (warning)"),
        ("FROM a\nRUN b\n# pybuild: skip=Sudo|Used\nRUN sudo c\n", "**SudoUsed**"),
        ("FROM a\nONBUILD R|UN b\n", INSTRUCTIONS["RUN"].text),
        ("FROM a\n  R|UN <<EOF\nnot closed\n", INSTRUCTIONS["RUN"].text),
    ],
)
def test_hover(text: str, said: str) -> None:
    assert said in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nENV PATH=/x:$PATH\nRUN $|PATH\n",
        "FROM a\nENV A=$A\nRUN $|A\n",
        "FROM a\nENV A=${B:?no}\nRUN $|A\n",
        "FROM a\n" + "ENV A=$A$A\n" * 200 + "RUN $|A\n",
        "FROM a\nENV A=0123456789\n" + "ENV A=$A$A\n" * 30 + "RUN $|A\n",
    ],
)
def test_a_value_that_cannot_be_known_is_not_made_up(text: str) -> None:
    assert shown(text).startswith("```dockerfile\nENV ")
    assert "Value" not in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nRUN ec|ho\n",
        "FROM a\nRUN \\$|A\n",
        "FROM a\n|\n",
        "# a comm|ent\nFROM a\n",
        "|",
        "FROM a\nRUN --n|o x\n",
    ],
)
def test_there_is_not_always_something_to_say(text: str) -> None:
    assert shown(text) == ""


# Completion

NO_TRIGGER = ("FROM", "ONBUILD", "MAINTAINER", "TEST", "INCLUDE", "PACKAGES")
TMPFS = ["target", "source", "from", "id", "readonly", "readwrite", "size"]


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("FROM a\n|", list(INSTRUCTIONS)),
        ("FROM a\nru|", list(INSTRUCTIONS)),
        ("FROM a\nONBUILD |", [k for k in INSTRUCTIONS if k not in NO_TRIGGER]),
        ("FROM a\nRUN -|", list(FLAGS["RUN"])),
        ("FROM a\nCOPY --link --fr|", [f for f in FLAGS["COPY"] if f != "--link"]),
        ("FROM a\nCOPY --exclude=x \\\n  --|", list(FLAGS["COPY"])),
        ("FROM a\nONBUILD HEALTHCHECK --|", list(FLAGS["HEALTHCHECK"])),
        ("FROM a\nRUN npm --|", []),
        ("FROM a\nRUN --network=|", ["default", "none", "host"]),
        ("FROM a\nRUN --mount=type=|", list(TYPES)),
        ("FROM a\nRUN --mount=type=cache,sharing=|", ["shared", "private", "locked"]),
        ("FROM a\nRUN --mount=type=tmpfs,|", TMPFS),
        ("FROM a AS One\nFROM b\nFROM c\nCOPY --from=|", ["one", "1"]),
        ("FROM a AS one\nFROM b\nRUN --mount=from=| true\n", ["one"]),
        ("FROM a AS one\nCOPY --from=|", []),
        ("FROM a AS one\nFROM a |", ["AS"]),
        ("FROM a\nHEALTHCHECK --retries=1 |", ["CMD", "NONE"]),
        ("FROM a\nPACKAGES |", ["apt", "apk", "dnf", "pip", "npm"]),
        ("FROM a\nPACKAGES apt |", []),
        ("ARG A=1\nFROM a\nENV B=2\nRUN echo $|", ["B"]),
        ("ARG A=1\nFROM a\nARG A\nENV B=2\nRUN echo ${|", ["A", "B"]),
        ("FROM a\nENV B=2\nRUN <<E\necho $|\nE\n", ["B"]),
        ("FROM a\nENV B=2\nRUN <<E\nunclosed $|\n", ["B"]),
        ("FROM a\nRUN <<E\n|\nE\n", []),
        ("# |\nFROM a", ["syntax", "escape", "check"]),
        ("FROM a\n# |\n", []),
        ("# check=skip=A,|\nFROM a", list(all_rules())),
        ("FROM a\n# pybuild: skip=|\nRUN b", list(all_rules())),
    ],
)
def test_completion(text: str, offered: list[str]) -> None:
    assert labels(text) == offered


def test_completion_of_bases_and_platforms() -> None:
    assert labels("FROM a AS one\nFROM b\nFROM |")[:3] == ["one", "scratch", "./"]
    assert "mmdebstrap://" in labels("FROM |")
    assert "TARGETARCH" in labels("FROM --platform=$|")
    assert labels("ARG A=1\nFROM a\nARG |")[:2] == ["A", "TARGETPLATFORM"]
    assert "SIGTERM" in labels("FROM a\nSTOPSIGNAL |")


@pytest.mark.parametrize(
    ("text", "label", "after"),
    [
        ("FROM a\nru|", "RUN", "FROM a\nRUN "),
        ("FROM a\nCOPY --fr|", "--from", "FROM a\nCOPY --from="),
        ("FROM a\nCOPY --li|", "--link", "FROM a\nCOPY --link"),
        ("FROM a\nRUN --mount=type=ca|", "cache", "FROM a\nRUN --mount=type=cache"),
        ("FROM a\nRUN --mount=type=bind,rea|", "readonly", "FROM a\nRUN --mount=type=bind,readonly"),
        ("FROM a\nENV B=2\nRUN x$|", "B", "FROM a\nENV B=2\nRUN x$B"),
        ("FROM a\nENV B=2\nRUN ${|", "B", "FROM a\nENV B=2\nRUN ${B}"),
        ("FROM a\nENV B=2\nRUN ${|}", "B", "FROM a\nENV B=2\nRUN ${B}"),
        ("# esc|\nFROM a", "escape", "# escape=\nFROM a"),
    ],
)
def test_what_is_chosen_takes_the_place_of_what_was_typed(text: str, label: str, after: str) -> None:
    assert completed(text, label) == after


def test_completion_of_files(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for name in ("src/main.c", "base.rec", "test_it.py", "a b", ".hidden", os.fsdecode(b"\xff")):
        (tmp_path / name).write_text("")
    path = str(tmp_path / "app.rec")
    assert labels("FROM a\nCOPY |", path) == ["base.rec", "src", "test_it.py"]
    assert completed("FROM a\nCOPY --link sr|", "src", path) == "FROM a\nCOPY --link src/"
    assert labels("FROM a\nCOPY src/|", path) == ["main.c"]
    assert labels("FROM a\nCOPY ../../src/|", path) == ["main.c"], "as COPY has it"
    assert labels("FROM a\nCOPY .|", path) == [".hidden"]
    assert labels("FROM a\nCOPY --from=x |", path) == []
    assert labels("FROM a\nRUN --mount=source=s|", path) == ["src"]
    assert labels("FROM ./|", path) == ["base.rec", "src"]
    assert completed("FROM ./|", "base.rec", path) == "FROM ./base.rec"
    assert labels("FROM a\nINCLUDE |", path) == ["base.rec", "src"]
    assert labels("FROM a\nTEST --testinfra=|", path) == ["src", "test_it.py"]
    assert labels("FROM a\nCOPY none/|", path) == labels("FROM a\nCOPY |") == []


# Definitions, references, renaming


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM a AS One\nFROM |one\n", "1:One"),
        ("FROM a AS one\nFROM b\nCOPY --from=on|e /x /y\n", "1:one"),
        ('FROM a AS one\nFROM b\nCOPY --from="on|e" /x /y\n', "1:one"),
        ("FROM a\nFROM b\nCOPY --from=|0 /x /y\n", "1:FROM a"),
        ("FROM a AS one\nFROM b\nRUN --mount=target=/t,from=O|NE x\n", "1:one"),
        ("FROM a AS x\nFROM b AS x\nFROM c AS d\nFROM x|\n", "2:x"),
        ("ARG B=1\nFROM a:${|B}\n", "1:B"),
        ("ARG B=1\nFROM a\nARG |B\n", "1:B"),
        ("FROM a\nENV B=1\nENV B=2 C=$|B\n", "2:B"),
        ("ARG B=one\nFROM a AS one\nFROM $|B\n", "1:B"),
        ("FROM one AS one\nFROM |b\n", None),
        ("FROM a\nRUN $|B\n", None),
    ],
)
def test_definition(text: str, found: str | None) -> None:
    assert target(text) == found


def test_definition_in_other_files(tmp_path: Path) -> None:
    path = str(tmp_path / "app.rec")
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.rec").write_text("FROM a AS one\nFROM b AS two\n")
    (tmp_path / "sub" / "part.rec").write_text("RUN x\n")
    (tmp_path / "test_it.py").write_text("")
    assert target("FROM ./ba|se.rec\n", path) == "base.rec:1:"
    assert target("FROM ./ba|se.rec#TWO\n", path) == "base.rec:2:two"
    assert target("FROM ./ba|se.rec#1\n", path) == "base.rec:2:two"
    assert target("FROM a\nINCLUDE sub/p|art.rec A=1\n", path) == "part.rec:1:"
    assert target("FROM a\nTEST --testinfra=test|_it.py\n", path) == "test_it.py:1:"
    assert target("FROM a\nCOPY /su|b/part.rec /\n", path) == "part.rec:1:"
    assert target("FROM a AS b\nFROM c\nCOPY --from=b su|b/part.rec /\n", path) is None
    assert target("FROM ./none|.rec\n", path) is None
    os.mkfifo(tmp_path / "pipe.rec")
    assert target("FROM ./pi|pe.rec#x\n", path) is None


def test_occurrences_of_stages_and_variables() -> None:
    document, offset = at("FROM a AS o|ne\nFROM one\nCOPY --from=ONE x /y\nRUN --mount=from=0 x\n")
    found = occurrences(document, offset)
    assert [(document.slice(each.range), each.write) for each in found] == [
        ("one", True),
        ("one", False),
        ("ONE", False),
        ("0", False),
    ]
    document, offset = at("FROM a\nENV A=1\nRUN $|A ${A}\nENV A=2\nRUN $A\n")
    assert [document.place(each.range.start)[0] for each in occurrences(document, offset)] == [2, 3, 3]


def renamed(text: str, name: str) -> str:
    document, offset = at(text)
    out = document.text
    for where in reversed(rename(document, offset, name)):
        out = out[: where.start] + name + out[where.end :]
    return out


def test_renaming_a_stage() -> None:
    text = (
        "FROM a AS One\nFROM one AS two\nFROM b\nCOPY --from=o|ne x /y\n"
        "COPY \\\n  --from='ONE' one /one\nRUN --mount=type=bind,from=one,source=/one x\nCOPY --from=0 x /z\n"
    )
    assert renamed(text, "first") == (
        "FROM a AS first\nFROM first AS two\nFROM b\nCOPY --from=first x /y\n"
        "COPY \\\n  --from='first' one /one\n"
        "RUN --mount=type=bind,from=first,source=/one x\nCOPY --from=0 x /z\n"
    )
    assert renamed("FROM a AS o|ne\n", "ONE") == "FROM a AS ONE\n"


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        ("FROM a AS o|ne\n", "", "cannot name"),
        ("FROM a AS o|ne\n", "1", "cannot name"),
        ("FROM a AS o|ne\n", "two words", "cannot name"),
        ("FROM a AS o|ne\n", "ä", "cannot name"),
        ("FROM a AS o|ne\n", "Scratch", "means something else"),
        ("FROM a AS o|ne\nFROM b AS two\n", "TWO", "already, in line 2"),
        ("FROM a AS o|ne\nFROM debian\n", "debian", "an image that the recipe uses"),
        ("FROM a AS o|ne\nFROM b\nCOPY --from=busybox x /y\n", "busybox", "an image that the recipe uses"),
        ("ARG B=one\nFROM a AS o|ne\nFROM $B\n", "two", "line 3 names the stage by a variable"),
        ("FROM a AS one\nFROM b\nCOPY --from=o\\\nn|e x /y\n", "two", "in pieces"),
        ("FROM |a AS one\n", "two", "only stages"),
    ],
)
def test_renaming_is_refused_with_the_reason(text: str, name: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        renamed(text, name)


def test_renaming_is_refused_if_an_included_file_names_the_stage(tmp_path: Path) -> None:
    path = str(tmp_path / "app.rec")
    (tmp_path / "loop.rec").write_text("INCLUDE loop.rec\nINCLUDE sub/part.rec\nINCLUDE none.rec\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "part.rec").write_text("RUN x\nCOPY --from=ONE /x /y\n")
    document, offset = at("FROM a AS o|ne\nFROM b AS two\nINCLUDE loop.rec\n", path)
    with pytest.raises(Refused, match=r"sub/part\.rec:2 names the stage, too"):
        rename(document, offset, "first")
    assert rename(document, document.text.index("two"), "second") == [document.stages[1].name]


def test_what_has_no_name_cannot_be_renamed() -> None:
    with pytest.raises(Refused, match="number"):
        renamable(*at("FROM a AS one\nFROM b\nCOPY --from=|0 x /y\n"))
    with pytest.raises(Refused, match="stage 0 has no name"):
        renamable(*at("FROM a\nFROM b\nCOPY --from=|0 x /y\n"))
    assert renamable(*at("FROM |a AS one\n")) is None


# Outline, folding, fixes, formatting


def test_outline() -> None:
    found = symbols(
        Document("ARG A=1\nFROM a AS one\nRUN x \\\n y\nRUN <<E\nz\nE\nOOPS\nFROM b\nONBUILD USER me\n")
    )
    assert [(s.kind, s.name, s.detail, len(s.children)) for s in found] == [
        ("instruction", "ARG", "A=1", 0),
        ("stage", "one", "a", 2),
        ("stage", "stage 1", "b", 1),
    ]
    assert [(child.name, child.detail) for child in found[1].children] == [("RUN", "x y"), ("RUN", "<<E")]
    assert (found[2].children[0].name, found[2].children[0].detail) == ("ONBUILD USER", "me")


def test_folding() -> None:
    text = "# a\n# b\nFROM a\nRUN x \\\n  # c\n  y\nRUN cat <<A <<B\n# no\n# comments\nA\n2\nB\nFROM b\n"
    found = [(fold.first, fold.last, fold.kind) for fold in folds(Document(text))]
    assert found == [
        (1, 2, "comment"),
        (3, 12, "region"),
        (4, 6, "region"),
        (7, 10, "region"),
        (10, 12, "region"),
    ]


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("FROM a:1\nRU|NN x\n", "FROM a:1\nRUN x\n"),
        ("FROM a:1\nCOPY --chwon|=1 x /\n", "FROM a:1\nCOPY --chown=1 x /\n"),
        ("FROM a:1\nRUN --mount=type=cahe|,target=/x y\n", "FROM a:1\nRUN --mount=type=cache,target=/x y\n"),
        ("FROM a:1\nRUN --mount=type=cache,tagret=|/x y\n", "FROM a:1\nRUN --mount=type=cache,target=/x y\n"),
        (
            "FROM a:1\nRUN --mount=type=cache,target=/x,sharing=lokced| y\n",
            "FROM a:1\nRUN --mount=type=cache,target=/x,sharing=locked y\n",
        ),
        ("FROM a:1\nRUN --network=nnoe| y\n", "FROM a:1\nRUN --network=none y\n"),
        ("FROM a:1\nPACKAGES at|p x\n", "FROM a:1\nPACKAGES apt x\n"),
        ("FROM a:1\nSTOPSIGNAL SIGTREM|\n", "FROM a:1\nSTOPSIGNAL SIGTERM\n"),
        ("FROM scratch\nENV NAME=1\nENV B=$NMAE|\n", "FROM scratch\nENV NAME=1\nENV B=$NAME\n"),
    ],
)
def test_the_near_miss_is_put_in_its_place(text: str, after: str) -> None:
    document, offset = at(text)
    found = [action for action in actions(document, Range(offset, offset)) if action.preferred]
    (edit,) = found[0].edits
    assert document.text[: edit.range.start] + edit.text + document.text[edit.range.end :] == after


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_comment_that_skips_a_rule_does_so(end: str) -> None:
    document, offset = at(end.join(["FROM a:1", "  RUN x \\", "  && su|do y", ""]))
    (action,) = actions(document, Range(offset, offset))
    (edit,) = action.edits
    after = document.text[: edit.range.start] + edit.text + document.text[edit.range.end :]
    assert after == end.join(["FROM a:1", "  # pybuild: skip=SudoUsed", "  RUN x \\", "  && sudo y", ""])
    assert [p.rule for p in document.problems] == ["SudoUsed"] and Document(after).problems == ()


@given(
    st.lists(
        st.sampled_from(["from a:1", "RUN  b", "", "# c", "RUN d \\\r", "  e", "ENV  A=1\r"]), max_size=12
    )
)
def test_formatting_is_what_fmt_does(lines: list[str]) -> None:
    document = Document("\n".join(["FROM x:1", *lines, ""]))
    out = document.text
    for edit in formatting(document):
        out = out[: edit.range.start] + edit.text + out[edit.range.end :]
    assert document.reading.errors or out == format_source(document.source)


# Any text at all

LINES = st.sampled_from(
    [
        "FROM a AS b",
        "FROM ${X:-b} AS c",
        "COPY --from=b --chown=$U x \\",
        "RUN --mount=type=bind,from=B,\"source=a,b\" <<E cat 3<<'F'",
        "RUN --mount=",
        "E",
        "F",
        "ARG X=${Y:-$Z} Y",
        "ENV X $X$X",
        "# check=skip=all",
        "# escape=`",
        'CMD ["a", \\',
        "ONBUILD COPY --from=b x y",
        "HEALTHCHECK --interval=1 \U0001f980",
        "INCLUDE \udcff",
        "\ufeff\t \r",
        "TEST --testinfra=../x",
    ]
)


def inside(document: Document, *ranges: Range) -> None:
    for where in ranges:
        assert 0 <= where.start <= where.end <= len(document.text)
        for encoding in ("utf-8", "utf-16", "utf-32"):
            line, character = document.position(where.end, encoding)
            assert line >= 0 and character >= 0


def check_symbols(document: Document, found: list[Symbol] | tuple[Symbol, ...], outer: Range) -> None:
    for symbol in found:
        inside(document, symbol.range, symbol.selection)
        assert outer.start <= symbol.range.start <= symbol.selection.start
        assert symbol.selection.end <= symbol.range.end <= outer.end
        check_symbols(document, symbol.children, symbol.range)


@given(st.lists(LINES | TEXTS, max_size=8).map("\n".join), st.data())
def test_no_text_is_too_much_and_every_range_is_within_it(text: str, data: st.DataObject) -> None:
    document = Document(text, "/nonexistent/x.rec")
    inside(document, *[document.range(problem.span) for problem in document.problems])
    check_symbols(document, symbols(document), Range(0, len(text)))
    for fold in folds(document):
        assert 1 <= fold.first < fold.last <= len(document.lines)
    inside(document, *[edit.range for edit in formatting(document)])
    for action in actions(document, Range(0, len(text))):
        inside(document, *[edit.range for edit in action.edits])
    for offset in data.draw(st.lists(st.integers(0, len(text)), max_size=12)):
        found = hover(document, offset)
        if found is not None:
            inside(document, found[1])
        for item in completions(document, offset):
            inside(document, item.range)
            assert item.range.end == offset
        there = definition(document, offset)
        if there is not None and there.path is None:
            inside(document, there.range)
        inside(document, *[each.range for each in occurrences(document, offset)])
        try:
            where = renamable(document, offset)
            if where is not None:
                inside(document, where, *rename(document, offset, "renamed"))
        except Refused:
            pass


def test_every_rule_and_code_has_a_page() -> None:
    for rule in [*all_rules(), "UnknownRule", "recipe/syntax"]:
        assert page(rule, documentation()) is not None, rule
    assert page("NoSuchRule", documentation()) is None
