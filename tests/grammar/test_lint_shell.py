"""Shell scripts to commands: the operators, quotes and substitutions that rules depend on."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammar.shell import ShellError, shell_gaps
from grammar.shell_commands import shell_commands


def words(script: str) -> list[list[str]]:
    return [[word.text for word in command.words] for command in shell_commands(script)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("a b && c || d; e & f | g |& h", [["a", "b"], ["c"], ["d"], ["e"], ["f"], ["g"], ["h"]]),
        ("""a 'b c' "d e" f\\ g""", [["a", "b c", "d e", "f g"]]),
        ("""a "b 'c' $(d "e f") g" h""", [["a", """b 'c' $(d "e f") g""", "h"], ["d", "e f"]]),
        ("a `b c` d", [["a", "`b c`", "d"], ["b", "c"]]),
        ("a ${b:-$(c d)} e", [["a", "${b:-$(c d)}", "e"], ["c", "d"]]),
        ("a $((1 + 2)) b", [["a", "$((1 + 2))", "b"]]),
        ("X=1 Y=$(a) b c", [["b", "c"], ["a"]]),
        ("X=1", []),
        ("a > b 2>&1 < c >>d e", [["a", "e"]]),
        ("a <(b c) >(d)", [["a", "<(b c)", ">(d)"], ["b", "c"], ["d"]]),
        ("a <<(b", [["b"]]),
        ("a # b && c", [["a"]]),
        ("a#b", [["a#b"]]),
        ("if a; then b; elif c; then d; else e; fi && f", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]),
        ("for x in a b $(c); do d $x; done; e", [["c"], ["d", "$x"], ["e"]]),
        ("while ! a; do b; done", [["a"], ["b"]]),
        ("case $a in b|c) d;; (e) f;; *) g;; esac; h", [["d"], ["f"], ["g"], ["h"]]),
        ("x=$(case a in a) b;; esac) c", [["c"], ["b"]]),
        ("(a; b) && { c; d; }", [["a"], ["b"], ["c"], ["d"]]),
        ("f() { a; }; f", [["a"], ["f"]]),
        ("cat <<E | a\nb && c\nE\nd", [["cat"], ["a"], ["d"]]),
        ("cat <<-'E'\n\tb\n\tE\nd", [["cat"], ["d"]]),
        ("a \\\n  b\nc", [["a", "b"], ["c"]]),
        ("echo if then fi", [["echo", "if", "then", "fi"]]),
        ("'if' a", [["if", "a"]]),
    ],
)
def test_a_script_is_its_commands(script: str, expected: list[list[str]]) -> None:
    assert words(script) == expected


def test_operators_and_surroundings_are_told() -> None:
    first, second, third = shell_commands("a && (b | c)")
    assert (first.before, first.after, first.depth) == ("", "&&", 0)
    assert (second.before, second.after, second.depth) == ("(", "|", 1)
    assert (third.piped, third.after) == (True, ")")
    condition, body, after = shell_commands("if a; then b; fi; c")
    assert (condition.condition, body.condition, after.condition) == (True, False, False)
    assert (condition.block, body.block, after.block) == (1, 1, 0)
    negated, plain = shell_commands("! a; b")
    assert (negated.condition, plain.condition) == (True, False)


@pytest.mark.parametrize("script", ["a 'b", 'a "b', "a $(b", "a ${b", "a `b", "a $'b\\'c'", "$(" * 60])
def test_what_is_not_closed_is_refused(script: str) -> None:
    with pytest.raises(ShellError):
        shell_commands(script)


@given(st.text("ab '\"$(){}`\\;&|<>#\n=!").map(str))
def test_any_text_is_read_or_refused(script: str) -> None:
    try:
        commands = shell_commands(script)
    except ShellError:
        return
    for command in commands:
        for word in command.words:
            assert 0 <= word.start < word.end <= len(script)


PIECE = st.text("ab \\'\"$#*", max_size=5)


@st.composite
def quoted_words(draw: st.DrawFn) -> list[str]:
    """Shell words, each quoted in one of the ways that there are."""
    out = []
    for text in draw(st.lists(PIECE, min_size=1, max_size=4)):
        how = draw(st.sampled_from("'\"\\"))
        if how == "'":
            out.append("'" + text.replace("'", "'\\''") + "'")
        elif how == '"':
            out.append('"' + "".join("\\" + c if c in '\\"$' else c for c in text) + '"')
        else:
            out.append("".join("\\" + c for c in text) or "''")
    return out


@given(st.lists(quoted_words(), min_size=1, max_size=8))
def test_words_and_gaps_are_those_of_a_real_shell(lines: list[list[str]]) -> None:
    scripts = ["  ".join(["set", "--", *line]) for line in lines]
    told = "".join(f"{script}\nprintf '%s\\0' \"$@\"\nprintf '\\1'\n" for script in scripts)
    real = subprocess.run(["dash", "-c", told], check=True, capture_output=True, encoding="utf-8").stdout
    ours = "".join("".join(text + "\0" for text in words(script)[0][2:]) + "\1" for script in scripts)
    assert ours == real
    for script in scripts:
        # One blank in place of each gap, and the words are the same.
        gaps = shell_gaps(script)
        assert all(set(script[start:end]) == {" "} for start, end in gaps)
        narrow = script
        for start, end in reversed(gaps):
            narrow = narrow[:start] + " " + narrow[end:]
        assert words(narrow) == words(script)
