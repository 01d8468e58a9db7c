"""The JSON form of commands and lists: `["a", "b"]`. What is no valid JSON is no error but the shell form."""

from __future__ import annotations

import re

from grammar.errors import RecipeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from grammar.lines import LogicalLine

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SURROGATE = re.compile("[\ud800-\udfff]")


def json_strings(text: str, start: int, end: int, logical: LogicalLine) -> list[tuple[str, int, int]] | None:
    """Return the strings of the JSON array that stands from `start` to `end`, each with its own start and
    end.

    None if that is no valid JSON array. Raises RecipeError (recipe/json) if it is one and holds anything but
    strings.
    """
    if not text.startswith("[", start):
        return None
    import json

    try:
        values = json.loads(
            text[start:end], parse_constant=_no_constant, parse_int=str.__len__, parse_float=str.__len__
        )
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in values):
        raise RecipeError(
            "a JSON array here holds strings only",
            logical.span(start, end),
            hint='Put each element into double quotes: ["echo", "1"].',
            code="recipe/json",
        )
    places = [match.span() for match in _STRING.finditer(text, start, end)]
    # Half of a surrogate pair (a lone \ud800) is no character: what Go's decoder makes of it.
    return [(_SURROGATE.sub("\ufffd", value), *place) for value, place in zip(values, places, strict=True)]


def _no_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python's decoder would take."""
    raise ValueError(name)
