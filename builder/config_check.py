"""Reading pybuild.toml against the keys that it may have, and saying where in the file a wrong one stands."""

from __future__ import annotations

import os
import re
from typing import Any

from builder.config import ConfigError
from builder.config_keys import KEYS, Path
from grammar.source import Source, Span

_REGISTRY = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAMES: dict[str, tuple[re.Pattern[str], str, str]] = {
    "registries": (
        _REGISTRY,
        "registry",
        'a host with or without a port, and nothing else: [registries."registry.example.org:5000"]',
    ),
    "build-args": (_ARGUMENT, "build argument", "letters, digits and underscores"),
}
"""What names in a table are: a pattern, what they name, and a hint."""


def check(source: Source) -> dict[Path, Any]:
    """Return every value that the file `source` sets, converted.

    Raises ConfigError for the first thing wrong in it.
    """
    import tomli

    try:
        document = tomli.loads(source.text)
    except tomli.TOMLDecodeError as error:
        raise _syntax(source, str(error)) from None
    values: dict[Path, Any] = {}
    _walk(document, (), source, values)
    return values


def _walk(table: dict[str, Any], above: Path, source: Source, values: dict[Path, Any]) -> None:
    for name, value in table.items():
        path = (*above, name)
        keys = [key for key in KEYS if _matches(key.path, path)]
        if not keys:
            raise _unknown(source, path)
        _check_name(source, path)
        if len(keys[0].path) > len(path):
            if not isinstance(value, dict):
                raise _wrong(source, path, "a table", value)
            _walk(value, path, source, values)
            continue
        try:
            values[path] = keys[0].read(value, os.path.dirname(source.name))
        except ValueError:
            raise _wrong(source, path, keys[0].expected, value) from None


def _matches(pattern: Path, path: Path) -> bool:
    """Whether `path` is the beginning of `pattern`, or all of it."""
    return len(path) <= len(pattern) and all(p in ("*", n) for p, n in zip(pattern, path, strict=False))


def _check_name(source: Source, path: Path) -> None:
    pattern, what, hint = _NAMES.get(path[0], (None, "", ""))
    if len(path) != 2 or pattern is None or pattern.fullmatch(path[1]) is not None:
        return
    raise ConfigError(
        f'"{path[1]}" is no {what}\'s name',
        code="config/value",
        hint=hint,
        span=locate(source, path),
        source=source,
    )


def _unknown(source: Source, path: Path) -> ConfigError:
    import difflib

    above = path[:-1]
    known = sorted(
        {key.path[len(above)] for key in KEYS if _matches(key.path, above) and len(key.path) > len(above)}
    )
    # The right key in the wrong table is as common as a misspelling.
    elsewhere = [key.name for key in KEYS if key.path[-1] == path[-1]]
    near = difflib.get_close_matches(path[-1], known, 1, 0.6)
    if near:
        hint = f"did you mean `{near[0]}`?"
    elif elsewhere:
        hint = f"it is called `{elsewhere[0]}`"
    else:
        hint = f"known here: {', '.join(known)}"
    where = f" in [{'.'.join(above)}]" if above else ""
    return ConfigError(
        f"unknown key `{path[-1]}`{where}",
        code="config/unknown-key",
        hint=hint,
        span=locate(source, path),
        source=source,
    )


def _wrong(source: Source, path: Path, expected: str, value: object) -> ConfigError:
    words = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a table",
    }
    shown = words.get(type(value), "a date or time")
    if isinstance(value, str | int | float):
        shown = f'"{value}"' if isinstance(value, str) else str(value).lower()
    return ConfigError(
        f"`{path[-1]}` must be {expected}, not {shown}",
        code="config/value",
        span=locate(source, path),
        source=source,
    )


def _syntax(source: Source, words: str) -> ConfigError:
    """Take the place out of tomli's message, which is how all its versions tell it."""
    match = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", words)
    message = words[: match.start()] if match else words
    lines = source.lines
    line, column = len(lines), len(lines[-1]) + 1
    if match and match[1]:
        line, column = int(match[1]), int(match[2])
    span = Span(source.name, line, column, line, column + 1)
    return ConfigError(f"not TOML: {message}", code="config/syntax", span=span, source=source)


def locate(source: Source, path: Path) -> Span:
    """Return where the last name of `path` stands in a file that parses and has it.

    tomli tells no places. But the first lines up to and including the one where the key's value ends are a
    document too, and the shortest such document that has the key ends with it.
    """
    import tomli

    lines = source.lines
    complete = 0
    for end in range(1, len(lines) + 1):
        try:
            document = tomli.loads("\n".join(lines[:end]) + "\n")
        except tomli.TOMLDecodeError:
            continue  # within a value of several lines
        if _has(document, path):
            break
        complete = end
    text = lines[complete]
    found = [match.start() for match in re.finditer(re.escape(path[-1]), text)]
    # In `[registries."x"]` or `a.b = 1` the last occurrence before `=` is meant.
    before = [at for at in found if at < (text.find("=") if "=" in text else len(text))]
    column = (before or found or [0])[-1] + 1
    return Span(
        source.name, complete + 1, column, complete + 1, column + (len(path[-1]) if found else len(text))
    )


def _has(document: Any, path: Path) -> bool:
    for name in path:
        if not isinstance(document, dict) or name not in document:
            return False
        document = document[name]
    return True
