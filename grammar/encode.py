"""Recipe <-> bytes: what a build keeps of a parsed recipe, so that the next one needs no parser.

A node becomes a tuple of its class's number and its fields, a tuple becomes a list, and `marshal` does the
rest: the quickest that the standard library has. Its format belongs to an interpreter, so the header names
that, the version here, and the shape of all nodes; and a checksum guards `marshal`, which must not be given
damaged bytes.
"""

from __future__ import annotations

import marshal
import sys
from zlib import crc32

from grammar import ast
from grammar.node import Node
from grammar.source import Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
"""Of what the fields mean: to be raised when a parser's result changes though the shape of the nodes does
not.
"""

_CLASSES: tuple[type[Node], ...] = (
    Span,
    ast.Word,
    ast.Pair,
    ast.Heredoc,
    ast.Command,
    ast.Mount,
    ast.From,
    ast.Arg,
    ast.Env,
    ast.Run,
    ast.Copy,
    ast.Add,
    ast.Workdir,
    ast.User,
    ast.Label,
    ast.Expose,
    ast.Volume,
    ast.Cmd,
    ast.Entrypoint,
    ast.Healthcheck,
    ast.Stopsignal,
    ast.Shell,
    ast.Onbuild,
    ast.Maintainer,
    ast.Test,
    ast.Include,
    ast.Packages,
    ast.Stage,
    ast.Directives,
    ast.Recipe,
    ast.Fragment,
)
_NUMBERS = {cls: number for number, cls in enumerate(_CLASSES)}
_SHAPE = repr((VERSION, sys.hexversion, [(cls.__name__, cls.__match_args__) for cls in _CLASSES]))
_HEADER = b"recipe\0" + crc32(_SHAPE.encode()).to_bytes(4, "little")


class StaleEncoding(ValueError):
    """The bytes were written by another version, or are damaged: the recipe has to be parsed again."""


def dump(recipe: ast.Recipe | ast.Fragment) -> bytes:
    """Return `recipe` as bytes that `load` of this very version reads."""
    body = marshal.dumps(_flat(recipe))
    return _HEADER + crc32(body).to_bytes(4, "little") + body


def load(data: bytes) -> Any:
    """Return the Recipe or Fragment that was dumped. Raises StaleEncoding for bytes that `dump` of this
    version did not write.
    """
    start = len(_HEADER) + 4
    body = data[start:]
    # Nothing at all would have the right checksum, too.
    if (
        not body
        or data[: len(_HEADER)] != _HEADER
        or crc32(body) != int.from_bytes(data[len(_HEADER) : start], "little")
    ):
        raise StaleEncoding("the parsed recipe was written by another version")
    return _node(marshal.loads(body))


def _flat(value: Any) -> Any:
    if isinstance(value, Node):
        return (_NUMBERS[type(value)], *[_flat(field) for field in value.values()])
    if isinstance(value, tuple):
        return [_flat(item) for item in value]
    return value


def _node(value: Any) -> Any:
    kind = type(value)
    if kind is tuple:
        number = value[0]
        if number == 0:
            return Span.make(value[1:])
        return _CLASSES[number].make([_node(field) for field in value[1:]])
    if kind is list:
        return tuple([_node(item) for item in value])
    return value
