"""Trees and plans as text that people can read, and that `diff` can compare: a line for each node, what is
not given left out."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass

from cache.oci.spec import ImageConfig
from grammar.node import Node
from grammar.source import Span

NOT_GIVEN = (None, "", (), b"", False)


def shown(value: object, file: str, label: str = "", indent: str = "") -> list[str]:
    """Return the lines for a node or dataclass, or a tuple of such. `file` is what spans need not name."""
    if isinstance(value, tuple):
        lines = [f"{indent}{label}:"]
        return lines + [line for item in value for line in _item(item, file, indent + "  ")]
    pairs = _fields(value)
    head = [f"{label}: " * bool(label) + type(value).__name__]
    below: list[str] = []
    for name, field in pairs:
        if name == "config" and isinstance(value, ImageConfig):
            continue  # the stage's own, which is shown
        if field in NOT_GIVEN and not (isinstance(field, bytes) and name == "script"):
            continue
        if isinstance(field, Span):
            head.append(_span(field, file) if name == "span" else f"{name}={_span(field, file)}")
        elif _deep(field):
            below += shown(field, file, name, indent + "  ")
        else:
            head.append(f"{name}={_plain(field)}")
    return [indent + " ".join(head), *below]


def _item(value: object, file: str, indent: str) -> list[str]:
    return shown(value, file, "", indent) if _node(value) else [f"{indent}{_plain(value)}"]


def _node(value: object) -> bool:
    return isinstance(value, Node) or (is_dataclass(value) and not isinstance(value, type))


def _deep(value: object) -> bool:
    """Whether a value takes lines of its own."""
    return _node(value) or (
        isinstance(value, tuple) and any(_node(item) or isinstance(item, tuple) for item in value)
    )


def _fields(value: object) -> list[tuple[str, object]]:
    if isinstance(value, Node):
        return list(zip(value.__match_args__, value.values(), strict=True))
    assert is_dataclass(value)
    return [(field.name, getattr(value, field.name)) for field in fields(value)]


def _span(span: Span, file: str) -> str:
    place = f"{span.line}:{span.column}-{span.end_line}:{span.end_column}"
    return place if span.file == file else f"{span.file}:{place}"


def _plain(value: object) -> str:
    return json.dumps(_jsonable(value), ensure_ascii=False)


def _jsonable(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, tuple | list | frozenset):
        return [_jsonable(item) for item in value]
    if _node(value):
        given = {name: _jsonable(field) for name, field in _fields(value) if field not in NOT_GIVEN}
        return {"is": type(value).__name__, **given}
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
