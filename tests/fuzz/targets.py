"""What is fuzzed: functions that take any bytes, and raise AssertionError (or anything that is no error of
ours) where pybuild does what it must not.

Each reader of what others wrote has one: recipes, layer tars, ignore files, the documents of the image-spec.
`run.py` gives them made-up input by the million; `test_corpus.py` gives them what was worth keeping of it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from builder.errors import PlanError
from builder.patterns import IgnoreRules, glob, has_wildcard, read_ignore_file
from cache.errors import CacheError, FormatError
from cache.oci.digest import Digest
from cache.oci.platform import Platform
from cache.oci.reference import Reference
from cache.oci.spec import Descriptor, ImageConfig, Index, Manifest
from cache.unpack import unpack
from grammar.ast import Recipe
from grammar.encode import StaleEncoding, dump, load
from grammar.errors import RecipeError, render
from grammar.format import _Formatter
from grammar.includes import Files, link
from grammar.lint import Options, lint
from grammar.meaning import meaning
from grammar.parser import decode, parse, parse_fragment, parse_trigger
from grammar.recover import is_fragment, read
from grammar.reports import as_text
from grammar.source import Source
from tests.golden_fixtures.planned import planned

if TYPE_CHECKING:
    from collections.abc import Callable

    from grammar.ast import Fragment


FRAGMENTS = {
    "a.rec": "ARG A=1\nRUN $A\n",
    "b.rec": "ARG A B=2\nINCLUDE a.rec A=$A$B\nENV C=$A\n",
    "c.rec": "INCLUDE c.rec\n",
}
"""What INCLUDE finds; any other path is that of the first one."""

FILES = Files(
    lambda _file, path: path if path in FRAGMENTS else "a.rec",
    lambda path: path,
    lambda path: parse_fragment(Source(path, FRAGMENTS[path])),
)


def recipe(data: bytes) -> None:
    """Parse, check, format, encode and plan; as a fragment what has no FROM."""
    try:
        source = decode("part.rec", data)
    except RecipeError as error:
        assert error.code == "recipe/not-text"
        return
    _checked(source)
    parsed = _parsed(source)
    if parsed is None:
        return
    assert load(dump(parsed)) == parsed
    _formatted(source)
    if isinstance(parsed, Recipe):
        with contextlib.suppress(PlanError, RecipeError, FormatError):
            planned(link(parsed, FILES), arguments=(("A", "1"), ("http_proxy", "p")))
    elif len(parsed.instructions) == 1:
        with contextlib.suppress(RecipeError):
            parse_trigger(source)


def _checked(source: Source) -> None:
    found = lint(source, Options(experimental=frozenset(["all"]), ignored=lambda path: len(path) % 2 == 0))
    as_text(found, [source])
    lines = source.lines
    for each in found:
        assert 1 <= each.span.line <= each.span.end_line <= len(lines), each
        assert 1 <= each.span.column <= len(lines[each.span.line - 1]) + 1, each


def _parsed(source: Source) -> Recipe | Fragment | None:
    """Return what `source` parses to; where it does not, reading on tells of the same mistake."""
    fragment = is_fragment(source)
    reading = read(source, fragment=fragment)
    try:
        parsed = parse_fragment(source) if fragment else parse(source)
    except RecipeError as error:
        assert error.code.startswith("recipe/"), error
        assert error.code != "recipe/error", error
        assert render(error, source)
        assert (error.code, error.span) in [(each.code, each.span) for each in reading.errors], error
        return None
    assert reading.errors == ()
    return parsed


def _formatted(source: Source) -> None:
    """The usual form has the same meaning, and is its own usual form."""
    fragment = is_fragment(source)
    before = read(source, fragment=fragment)
    if before.recipe is None:
        return
    text = _Formatter(before).run()
    after = read(Source(source.name, text), fragment=fragment)
    assert not after.errors, (text, after.errors[0])
    assert after.recipe is not None
    assert meaning(after.recipe) == meaning(before.recipe), text
    assert _Formatter(after).run() == text


def tar(data: bytes) -> None:
    """Unpack a layer: into its target and nowhere else, or not at all."""
    room = tempfile.mkdtemp(prefix="pybuild-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        target, canary = f"{room}/target", f"{room}/canary"
        os.mkdir(target)
        with open(canary, "w", encoding="ascii") as file:
            file.write("untouched")
        with contextlib.suppress(FormatError):
            unpack([data], target, ())
        assert sorted(os.listdir(room)) == ["canary", "target"]
        status = os.stat(canary)
        assert (status.st_nlink, status.st_size) == (1, 9)
    finally:
        shutil.rmtree(room)


def ignore(data: bytes) -> None:
    """Ignore files and wildcards: rules, or ValueError; and they match in bounded time."""
    text, _, path = data.decode("utf-8", "surrogateescape").partition("\0")
    path = path or "a/b.c/d"
    with contextlib.suppress(ValueError):
        rules = read_ignore_file(text)
        assert isinstance(rules.ignores(path), bool)
        assert IgnoreRules(rules.source).ignores(path) == rules.ignores(path)
    for part in text.split("\n")[:20]:
        if has_wildcard(part) and "/" not in part:
            with contextlib.suppress(ValueError):
                glob(part).match(path.replace("/", ""))


def document(data: bytes) -> None:
    """References, digests, platforms, and the JSON of manifests, indexes and configs: what is read is written
    and read again as the same."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(FormatError):
        name = Reference.parse(text)
        assert Reference.parse(str(name)) == name
        assert Reference.parse(name.familiar) == name
    with contextlib.suppress(FormatError):
        assert Digest.parse(text) == text
    with contextlib.suppress(StaleEncoding):
        load(data)
    with contextlib.suppress(FormatError):
        platform = Platform.parse(text)
        assert Platform.parse(str(platform)) == platform
    for kind in (Descriptor, Manifest, Index, ImageConfig):
        with contextlib.suppress(CacheError):
            value = kind.from_json(data)
            assert kind.from_json(value.to_json()) == value


TARGETS: dict[str, Callable[[bytes], None]] = {
    "recipe": recipe,
    "tar": tar,
    "ignore": ignore,
    "document": document,
}
