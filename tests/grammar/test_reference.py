"""The reference for editors covers the grammar, all of it and nothing else."""

from __future__ import annotations

import pytest

from grammar.errors import RecipeError
from grammar.lexer import FLAGS as TERMINALS
from grammar.lexer import KEYWORDS
from grammar.parser import lalr, parse
from grammar.recover import read
from grammar.reference import FLAGS, INSTRUCTIONS
from grammar.reference_values import (
    DIRECTIVES,
    FLAG_VALUES,
    MOUNT_OPTIONS,
    MOUNT_SYNONYMS,
    MOUNT_TYPES,
    PLATFORM_ARGUMENTS,
)
from grammar.rules.names import PLATFORM_ARGUMENTS as KNOWN_ARGUMENTS
from grammar.source import Source

VALUES = {
    "sharing": "locked",
    "size": "1m",
    "mode": "0755",
    "uid": "1",
    "gid": "1",
    "env": "X",
    "readonly": "true",
    "readwrite": "true",
    "required": "true",
}
VALUE = {
    "--mount": "type=cache,target=/x",
    "--network": "none",
    "--security": "sandbox",
    "--retries": "1",
    "--timeout": "5m",
}
SWITCHES = ("--link", "--parents", "--keep-git-dir", "--unpack")
REST = {
    "FROM": "mmdebstrap://x",
    "COPY": "a /b",
    "ADD": "a /b",
    "HEALTHCHECK": "CMD true",
    "RUN": "true",
    "TEST": "",
}


def accepted(keyword: str) -> set[str]:
    """Return the flags that the LALR parser allows after a keyword."""
    token = read(Source("x", f"{keyword} x\n")).lines[0].tokens[0]
    parser = lalr().parse_interactive("", start="recipe" if keyword == "FROM" else "fragment")
    parser.feed_token(token)  # type: ignore[arg-type]
    allowed = parser.accepts()
    return {flag for flag, terminal in TERMINALS.items() if terminal in allowed}


def test_it_has_every_instruction() -> None:
    assert set(INSTRUCTIONS) == KEYWORDS


@pytest.mark.parametrize("keyword", sorted(KEYWORDS))
def test_it_has_every_flag_of_each_instruction(keyword: str) -> None:
    assert set(FLAGS.get(keyword, ())) == accepted(keyword)


@pytest.mark.parametrize(("keyword", "flag"), [(k, flag) for k, flags in FLAGS.items() for flag in flags])
def test_each_flag_is_written_as_its_entry_says(keyword: str, flag: str) -> None:
    entry = FLAGS[keyword][flag]
    assert entry.syntax.startswith(flag)
    if flag in SWITCHES:
        assert "=" not in entry.syntax.removesuffix("[=false]")
        written = flag
    else:
        assert entry.syntax.startswith(flag + "=")
        written = f"{flag}={VALUE.get(flag, '1s' if keyword == 'HEALTHCHECK' else 'x')}"
    base = "" if keyword == "FROM" else "FROM a\n"
    rest = "" if flag == "--testinfra" else (REST[keyword] or "true")
    parse(Source("x.rec", f"{base}{keyword} {written} {rest}\n"))


@pytest.mark.parametrize("kind", MOUNT_TYPES)
@pytest.mark.parametrize("name", [*MOUNT_OPTIONS, *MOUNT_SYNONYMS])
def test_mount_options_belong_to_the_types_that_it_says(kind: str, name: str) -> None:
    option = MOUNT_OPTIONS[MOUNT_SYNONYMS.get(name, name)]
    allowed = not option.types or kind in option.types
    need = "id=a," if kind == "secret" and name not in ("id", "source", "src") else ""
    value = VALUES.get(MOUNT_SYNONYMS.get(name, name), "a")
    text = f"FROM a\nRUN --mount=type={kind},{need}{name}={value} true\n"
    if allowed and not (kind == "secret" and name == "from"):
        parse(Source("x", text))
    else:
        with pytest.raises(RecipeError):
            parse(Source("x", text))


@pytest.mark.parametrize("name", MOUNT_OPTIONS)
def test_switches_alone_stand_without_a_value(name: str) -> None:
    kind = (MOUNT_OPTIONS[name].types or ("bind",))[0]
    text = f"FROM a\nRUN --mount=type={kind},id=a,{name} true\n"
    if MOUNT_OPTIONS[name].switch:
        parse(Source("x", text))
    else:
        with pytest.raises(RecipeError, match="needs a value"):
            parse(Source("x", text))


def test_there_are_no_other_mount_types_and_options() -> None:
    with pytest.raises(RecipeError) as error:
        parse(Source("x", "FROM a\nRUN --mount=type=zzzzzz true\n"))
    assert error.value.hint == f"Known are {', '.join(MOUNT_TYPES)}."
    with pytest.raises(RecipeError) as error:
        parse(Source("x", "FROM a\nRUN --mount=zzzzzz=1 true\n"))
    known = (error.value.hint or "").removeprefix("Known are ").removesuffix(".").split(", ")
    assert set(known) == {"type", *MOUNT_OPTIONS}


def test_directives_and_platform_arguments() -> None:
    for name in DIRECTIVES:
        recipe = parse(Source("x", f"# {name}=\\\nFROM a\n"))
        assert getattr(recipe.directives, name) == "\\"
    assert set(PLATFORM_ARGUMENTS) == KNOWN_ARGUMENTS


@pytest.mark.parametrize(("flag", "value"), [(f, v) for f, values in FLAG_VALUES.items() for v in values])
def test_the_values_that_are_offered_are_taken(flag: str, value: str) -> None:
    keyword = next(keyword for keyword, flags in FLAGS.items() if flag in flags)
    base = "" if keyword == "FROM" else "FROM a\n"
    parse(Source("x", f"{base}{keyword} {flag}={value} {REST[keyword]}\n"))
