"""Parsed recipes as bytes, and nodes as values."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from grammar import ast, encode
from grammar.encode import StaleEncoding, dump, load
from grammar.node import Node
from grammar.parser import parse, parse_fragment
from grammar.source import Source, Span

ROOT = Path(__file__).parent.parent.parent
TEXT = "ARG V=1\nFROM debian:$V\nRUN --mount=type=cache,target=/x <<EOF\necho\nEOF\nCOPY --from=0x a b /c/\n"
RECIPE = parse(Source("a.rec", TEXT))


def test_a_header_alone_is_no_recipe() -> None:
    with pytest.raises(StaleEncoding):
        load(dump(parse(Source("f", "FROM a\n")))[:11])
    with pytest.raises(StaleEncoding):
        load(dump(parse(Source("f", "FROM a\n")))[:15])


def test_a_recipe_survives_encoding() -> None:
    again = load(dump(RECIPE))
    assert again == RECIPE
    assert hash(again) == hash(RECIPE)
    assert repr(again) == repr(RECIPE)


def test_a_fragment_survives_encoding() -> None:
    fragment = parse_fragment(Source("f.rec", "ARG A\nRUN x\n"))
    assert load(dump(fragment)) == fragment


def test_every_node_class_has_a_number() -> None:
    classes = {cls for _name, cls in inspect.getmembers(ast, inspect.isclass) if issubclass(cls, Node)}
    assert classes - {Node, ast.Instruction} == set(encode._CLASSES)


@pytest.mark.parametrize("at", range(0, len(dump(RECIPE)), 7))
def test_one_damaged_byte_is_noticed(at: int) -> None:
    data = bytearray(dump(RECIPE))
    data[at] ^= 0x10
    with pytest.raises(StaleEncoding):
        load(bytes(data))


@pytest.mark.parametrize("data", [b"", b"recipe\0", b"\0" * 100, dump(RECIPE)[:-1], dump(RECIPE) + b"x"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StaleEncoding):
        load(data)


def test_another_version_writes_another_header() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import grammar.ast; grammar.ast.Word.__match_args__ = ('text',);"
        "import grammar.encode; sys.stdout.buffer.write(grammar.encode._HEADER)"
    )
    header = subprocess.run(
        [sys.executable, "-I", "-c", script, str(ROOT)], capture_output=True, check=True
    ).stdout
    assert header[:7] == encode._HEADER[:7]
    assert header != encode._HEADER


def test_the_way_of_a_cached_build_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from grammar import bases, encode, errors, expand, mounts, ports, signals;"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", script, str(ROOT)], capture_output=True, check=True, text=True
    ).stdout
    heavy = {
        "lark",
        "re",
        "json",
        "dataclasses",
        "typing",
        "enum",
        "collections",
        "functools",
        "grammar.parser",
        "grammar.lexer",
    }
    assert heavy & set(loaded.split()) == set()


class Point(Node):
    x: int
    y: int = 0
    tag: str = ""


class Point3(Point):
    z: int = 9


def test_nodes_are_frozen_values() -> None:
    point = Point(1, tag="t")
    assert (point.x, point.y, point.tag) == (1, 0, "t")
    assert point == Point(1, 0, "t")
    assert point != Point(2, 0, "t")
    assert point != Point3(1, 0, "t")
    assert len({point, Point(1, 0, "t")}) == 1
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del point.x
    with pytest.raises(AttributeError):
        point.other = 1  # type: ignore[attr-defined]
    assert not hasattr(point, "__dict__")


def test_nodes_inherit_fields_and_defaults() -> None:
    assert Point3(1).values() == (1, 0, "", 9)
    assert Point3(1, 2, "a", 3).replace(y=5) == Point3(1, 5, "a", 3)
    assert repr(Point3(1)) == "Point3(x=1, y=0, tag='', z=9)"


@pytest.mark.parametrize("arguments", [{}, {"y": 1}, {"x": 1, "nope": 2}])
def test_wrong_arguments_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Point(**arguments)  # type: ignore[arg-type]


def test_too_many_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        Point(1, 2, "a", 4)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Point(1, 2, x=1)  # type: ignore[misc]


def test_nodes_are_matched_copied_and_pickled() -> None:
    match Span("f", 1, 2, 3, 4):
        case Span(file, line, end_column=end):
            assert (file, line, end) == ("f", 1, 4)
        case _:
            raise AssertionError
    assert copy.deepcopy(RECIPE) == RECIPE == pickle.loads(pickle.dumps(RECIPE))
