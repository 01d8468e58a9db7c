"""`--format TEXT`: the fields of Go's templates that scripts use with docker and podman, and no more of it.

{{.Field.Field}}  {{json .Field}}  {{len .Field}}  {{index .Field 0}}  {{index .Field "key"}}  {{join
.Field ","}}
"""

from __future__ import annotations

import json
import re
import sys

from builder.errors import UsageError

_PATH = r"(?:\.[A-Za-z_]\w*)+|\."
_ACTION = re.compile(
    r"\{\{-?\s*(?:"
    rf"(?:(?P<function>json|len)\s+)?(?P<path>{_PATH})"
    rf"|index\s+(?P<indexed>{_PATH})\s+(?P<key>\d+|\"[^\"]*\")"
    rf"|join\s+(?P<joined>{_PATH})\s+\"(?P<separator>[^\"]*)\""
    r")\s*-?\}\}"
)
_UNSHOWN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What JSON may have as it is, and a terminal does not take for text (builder/progress/printable.py)."""


def to_json(value: object, indent: int | None = None) -> str:
    """Return `value` as JSON for people and programs alike: letters as they are, all controls escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _UNSHOWN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def displayed(text: str) -> str:
    """Return what is printed of a filled-in format: on a terminal, nothing of it means something there."""
    if not sys.stdout.isatty():
        return text
    from builder.progress.printable import printable

    return "\n".join(map(printable, text.split("\n")))


def fill(template: str, value: dict[str, object]) -> str:
    """Fill in the fields of a `--format`; `json` alone means all of it. Raises UsageError for a field that
    is not there, or for more of Go's templates.
    """
    if template == "json":
        return to_json(value)
    if "{{" in _ACTION.sub("", template):
        raise UsageError(
            f"--format {template!r}: only fields can be filled in",
            code="usage/format",
            hint="write {{.Id}}, {{json .Config}} or {{index .RepoTags 0}}; for more, pipe the JSON into jq",
        )
    template = template.replace("\\t", "\t").replace("\\n", "\n")
    return _ACTION.sub(lambda match: _action(match, value), template)


def _action(match: re.Match[str], value: dict[str, object]) -> str:
    if match["joined"]:
        found = _field(value, match["joined"])
        if not isinstance(found, list):
            raise _unknown(f"{match['joined']} is no list")
        return match["separator"].join(map(_text, found))
    if match["indexed"]:
        return _text(_entry(_field(value, match["indexed"]), match["key"]))
    found = _field(value, match["path"])
    if match["function"] == "len":
        if not isinstance(found, (list, dict, str)):
            raise _unknown(f"{match['path']} has no length")
        return str(len(found))
    return to_json(found) if match["function"] else _text(found)


def _field(value: object, path: str) -> object:
    for name in filter(None, path.split(".")):
        if not isinstance(value, dict) or name not in value:
            raise _unknown(f"there is no field {path}")
        value = value[name]
    return value


def _entry(found: object, key: str) -> object:
    if key.startswith('"'):
        # As with Go, a key that a map lacks is empty.
        return found.get(key[1:-1], "") if isinstance(found, dict) else ""
    if not isinstance(found, list) or int(key) >= len(found):
        raise _unknown(f"there is no entry {key}")
    return found[int(key)]


def _text(found: object) -> str:
    if isinstance(found, str):
        return found
    return to_json(found)


def _unknown(problem: str) -> UsageError:
    return UsageError(f"--format: {problem}", code="usage/format")
