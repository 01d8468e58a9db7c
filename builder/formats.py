"""`--format TEXT`: the fields of Go's templates that scripts use with docker and podman, and no more of it.

{{.Field.Field}}  {{json .Field}}  {{len .Field}}  {{index .Field 0}}  {{index .Field "key"}}  {{join
.Field ","}}
"""

from __future__ import annotations

import json
import re

from builder.errors import UsageError

_PATH = r"(?:\.[A-Za-z_]\w*)+|\."
_ACTION = re.compile(
    r"\{\{-?\s*(?:"
    rf"(?:(?P<function>json|len)\s+)?(?P<path>{_PATH})"
    rf"|index\s+(?P<indexed>{_PATH})\s+(?P<key>\d+|\"[^\"]*\")"
    rf"|join\s+(?P<joined>{_PATH})\s+\"(?P<separator>[^\"]*)\""
    r")\s*-?\}\}"
)


def fill(template: str, value: dict[str, object]) -> str:
    """Fill in the fields of a `--format`; `json` alone means all of it. Raises UsageError for a field that
    is not there, or for more of Go's templates.
    """
    if template == "json":
        return json.dumps(value, ensure_ascii=False)
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
    return json.dumps(found, ensure_ascii=False) if match["function"] else _text(found)


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
    return json.dumps(found, ensure_ascii=False)


def _unknown(problem: str) -> UsageError:
    return UsageError(f"--format: {problem}", code="usage/format")
