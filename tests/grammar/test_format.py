"""Formatting: the usual form, reached in one go, and never another meaning."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.errors import RecipeError
from grammar.format import _Formatter, format_source
from grammar.lexer import KEYWORDS
from grammar.meaning import meaning, narrowed
from grammar.parser import decode, parse
from grammar.recover import is_fragment, read
from grammar.source import Source

GOLDEN = Path(__file__).parent.parent / "golden"
RECIPES = sorted(
    path.name
    for path in GOLDEN.iterdir()
    if path.suffix in (".rec", ".Dockerfile") and not path.name.startswith("error-")
)


def formatted(text: str, name: str = "f") -> str:
    """Format without the net that `format_source` has."""
    source = Source(name, text)
    reading = read(source, fragment=is_fragment(source))
    assert not reading.errors, reading.errors[0]
    return _Formatter(reading).run()


def check(text: str, name: str = "f") -> str:
    """Return the formatted text, which means the same, is its own formatted text, and lost no comment."""
    result = formatted(text, name)
    fragment = is_fragment(Source(name, text))
    before, after = (read(Source(name, each), fragment=fragment) for each in (text, result))
    assert not after.errors, (result, after.errors[0])
    assert before.recipe is not None
    assert after.recipe is not None
    assert meaning(after.recipe) == meaning(before.recipe), result
    assert formatted(result, name) == result
    assert format_source(Source(name, text)) == result
    return result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from  a   as b\nrun  make   all\n", "FROM a AS b\nRUN make all\n"),
        ("\n\n# c\n\n\n\nFROM a\n\n\n\nRUN b\n\n", "# c\n\nFROM a\n\nRUN b\n"),
        ("FROM a\nRUN b", "FROM a\nRUN b\n"),
        ("FROM a\n   # c  \n  RUN b   \n", "FROM a\n# c\nRUN b\n"),
        ("FROM a\nRUN b &&   \\  \n  c\n", "FROM a\nRUN b && \\\n    c\n"),
        ("FROM a\nRUN b \\\n\n  # c\n\tc \\\n d\n", "FROM a\nRUN b \\\n       # c\n       c \\\n    d\n"),
        ("FROM a\nRUN b\\\n  c\n", "FROM a\nRUN b \\\n    c\n"),
        ("FROM a\nRUN b\\\nc\n", "FROM a\nRUN b\\\nc\n"),
        ("FROM a\nRUN b \\\nc\n", "FROM a\nRUN b \\\n    c\n"),
        ("FROM a\nRUN 'b  \\\n   c'  d\n", "FROM a\nRUN 'b  \\\n   c' d\n"),
        ("FROM a\nRUN echo \"$(b  'c  d')\"   e\n", "FROM a\nRUN echo \"$(b  'c  d')\" e\n"),
        ("FROM a\nRUN b\\    c  d\n", "FROM a\nRUN b\\  c d\n"),
        ("FROM a\nRUN if b; \\\n   c; \\\n fi\n", "FROM a\nRUN if b; \\\n      c; \\\n    fi\n"),
        ('FROM a\ncmd [ "b","c"  ,"d  e" ]\n', 'FROM a\nCMD ["b", "c", "d  e"]\n'),
        ('FROM a\nCMD ["b", \\\n"c"]\n', 'FROM a\nCMD ["b", \\\n    "c"]\n'),
        ("FROM a\nENV  A=1   B='x  y'\n", "FROM a\nENV A=1 B='x  y'\n"),
        ("FROM a\nENV  A   x  y\n", "FROM a\nENV A x  y\n"),
        ("FROM a\nCOPY  --link   b   c\n", "FROM a\nCOPY --link b c\n"),
        ("FROM a\nWORKDIR   /b  c\n", "FROM a\nWORKDIR /b  c\n"),
        ("FROM a\nonbuild  run   b\n", "FROM a\nONBUILD RUN b\n"),
        ("FROM a\nhealthcheck  --retries=1  cmd  b\n", "FROM a\nHEALTHCHECK --retries=1 CMD b\n"),
        ("FROM a\nhealthcheck none\n", "FROM a\nHEALTHCHECK NONE\n"),
        ("FROM a\nRUN <<EOF\n  x  \n\n\nEOF\n", "FROM a\nRUN <<EOF\n  x  \n\n\nEOF\n"),
        ("FROM a\ncopy  <<A  <<B  /\nx \nA\n y\nB\nrun c\n", "FROM a\nCOPY <<A <<B /\nx \nA\n y\nB\nRUN c\n"),
        ("\ufeffFROM a\n", "FROM a\n"),
        ("FROM a\r\nRUN b  \\\r\n  c\r\n", "FROM a\r\nRUN b \\\r\n    c\r\n"),
        ("#  escape = `\nFROM a\nRUN b `\n  c  d\n", "#  escape = `\nFROM a\nRUN b `\n  c  d\n"),
        ("\n\n# escape=`\nFROM a\n", "\n# escape=`\nFROM a\n"),
        ("\\\n# escape=`\nFROM a\n", "\\\n# escape=`\nFROM a\n"),
        ("FROM a\nRUN b \\\n  # last\n", "FROM a\nRUN b\n# last\n"),
        ('FROM a\nSHELL ["pwsh", "-c"]\nRUN b   c\n', 'FROM a\nSHELL ["pwsh", "-c"]\nRUN b   c\n'),
        ("FROM a\nRUN b # c   d\n", "FROM a\nRUN b # c   d\n"),
        ("FROM a\nRUN b '\n", "FROM a\nRUN b '\n"),
        ("FROM a\nCMD -- b  c\n", "FROM a\nCMD -- b c\n"),
    ],
)  # fmt: skip
def test_the_usual_form(text: str, expected: str) -> None:
    assert check(text) == expected


LONG = "apt-get install -y " + " ".join(f"package{n}" for n in range(8))


def test_a_long_chain_is_broken_where_it_was_on_several_lines() -> None:
    text = f"FROM a\nRUN apt-get update \\\n && {LONG} && rm -rf x && true\n"
    assert check(text) == (
        f"FROM a\nRUN apt-get update \\\n    && {LONG} \\\n    && rm -rf x \\\n    && true\n"
    )
    text = f"FROM a\nRUN apt-get update && \\\n  {LONG} && rm -rf x\n"
    assert check(text) == f"FROM a\nRUN apt-get update && \\\n    {LONG} && \\\n    rm -rf x\n"


def test_a_long_chain_on_one_line_stays_on_it() -> None:
    text = f"FROM a\nRUN {LONG} && {LONG}\n"
    assert check(text) == text


def test_a_fragment_is_formatted() -> None:
    assert check("run  a\n", "part.rec") == "RUN a\n"


def test_what_cannot_be_read_is_an_error() -> None:
    with pytest.raises(RecipeError):
        format_source(Source("f", "FROM a\nRUNN b\n"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_golden_recipe_keeps_its_meaning_and_comments(name: str) -> None:
    source = decode(name, (GOLDEN / name).read_bytes())
    result = check(source.text, name)
    comments = [line.strip() for line in source.lines if line.strip().startswith("#")]
    kept = [line.strip() for line in result.split("\n") if line.strip().startswith("#")]
    assert kept == comments
    assert result.endswith("\n")


def test_other_meanings_are_told_apart() -> None:
    def of(text: str) -> object:
        return meaning(parse(Source("f", text)))

    assert of("FROM a\nRUN b  c\n") == of("from   a\n\nRUN b \\\n  c\n")
    for other in ("RUN 'b  c'", "RUN b c d", "RUN bc", 'RUN ["b", "c"]', "CMD b c"):
        assert of(f"FROM a\n{other}\n") != of("FROM a\nRUN b c\n")
    assert of("FROM a\nRUN 'b  c'\n") != of("FROM a\nRUN 'b c'\n")
    assert of("FROM a\nENV A=1\n") != of("FROM a\nENV A=2\n")
    assert narrowed("a   b  'c  d'") == "a b 'c  d'"


PIECES = st.sampled_from(
    [
        *sorted(KEYWORDS),
        *" \t'\"=$#&[]",
        *(
            "  ",
            "\\\n",
            " \\\n  ",
            " \\\n\n  # c\n",
            "\n",
            "\n",
            "\n# c\n",
            "a=b",
            "x",
            "\\ ",
            "\\",
            "&& ",
            "--from=x",
        ),
        *("<<E", "\nE\n", '["a","b"]', " as x", "$(a  b)", "# escape=`\n", "\r\n", "\u2028", "\ufeff"),
    ]
)
TEXTS = st.lists(PIECES, max_size=25).map("".join)


@settings(max_examples=2000)
@given(
    TEXTS | TEXTS.map("FROM scratch\n{}".format) | TEXTS.map("FROM a\nRUN x {}".format)
    | TEXTS.map("FROM a\nENV x={}".format)
)  # fmt: skip
def test_whatever_can_be_read_keeps_its_meaning(text: str) -> None:
    if read(Source("f", text)).errors:
        return
    check(text)


WORDS = st.lists(
    st.sampled_from(
        ["a", "'b  c'", '"d  e"', "f\\ g", '"$(echo  h)"', "i\\\nj", "'k\\\n  l'", "$((1 +  2))"]
    ),
    min_size=1,
    max_size=8,
)
BLANKS = st.sampled_from([" ", "  ", "\t", " \\\n", "\\\n    ", " \\\n\n # c\n\t"])


@settings(max_examples=200)
@given(WORDS, st.data())
def test_a_real_shell_sees_the_same_words(words: list[str], data: st.DataObject) -> None:
    script = "printf '%s|'" + "".join(data.draw(BLANKS) + word for word in words)
    text = f"FROM a\nRUN {script}\n"

    def ran(recipe: str) -> str:
        command = parse(Source("f", recipe)).stages[0].instructions[0].values()[2]
        script = command.args[0]  # type: ignore[attr-defined]
        return subprocess.run(["dash", "-c", script], check=True, capture_output=True, text=True).stdout

    assert ran(check(text)) == ran(text)
