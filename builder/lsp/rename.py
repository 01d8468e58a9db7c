"""Giving a stage another name, everywhere."""

from __future__ import annotations

import re

from builder.lsp.definition import opened
from builder.lsp.document import Document, Range
from builder.lsp.stages import named_sources, shown, stage_at
from builder.recipes import fragment_path
from grammar.ast import Include

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_RESERVED = ("scratch", "context")


class Refused(Exception):
    """It cannot be renamed, or not to that name; the message says why."""


def renamable(document: Document, offset: int) -> Range | None:
    """Return the place of the name at `offset`, if it is that of a stage. Raises Refused for one that has
    none."""
    found = stage_at(document, offset)
    if found is None:
        return None
    if document.stages[found[0]].name is None:
        raise Refused(f"{shown(document.stages[found[0]].stage)} has no name: give it one with AS")
    if document.slice(found[1]).isdecimal():
        raise Refused("a stage's number cannot be changed")
    return found[1]


def rename(document: Document, offset: int, name: str) -> list[Range]:
    """Return the places where the name of the stage at `offset` has to be replaced by `name`. Raises
    Refused."""
    if renamable(document, offset) is None:
        raise Refused("only stages can be renamed")
    found = stage_at(document, offset)
    assert found is not None, "it can be renamed"
    index = found[0]
    _check(document, index, name)
    mark = document.stages[index]
    assert mark.name is not None, "it can be renamed"
    places = {mark.name}
    for use in document.stage_uses:
        if use.index != index or use.number:
            continue
        if use.variable or not use.exact:
            line = document.place(use.range.start)[0]
            how = "by a variable" if use.variable else "in pieces"
            raise Refused(f"line {line} names the stage {how}: change that first")
        places.add(use.range)
    _check_fragments(document, mark.stage.name or "", set())
    return sorted(places, key=lambda place: place.start)


def _check_fragments(document: Document, name: str, seen: set[str]) -> None:
    """Raise Refused if a file that is included names the stage: what is edited is this document alone."""
    recipe = document.reading.recipe
    if not document.path or recipe is None:
        return
    for stage in recipe.stages:
        for instruction in stage.instructions:
            if not isinstance(instruction, Include):
                continue
            path = fragment_path(document.path, instruction.path.text)
            fragment = opened(path) if path not in seen else None
            seen.add(path)
            if fragment is None or fragment.reading.recipe is None:
                continue
            for word in named_sources(fragment.reading.recipe.stages[0]):
                if word.text.lower() == name:
                    raise Refused(f"{path}:{word.span.line} names the stage, too: change that first")
            _check_fragments(fragment, name, seen)


def _check(document: Document, index: int, name: str) -> None:
    """Raise Refused if the stage number `index` cannot be called `name`."""
    if not _NAME.fullmatch(name):
        raise Refused(
            f"{name!r} cannot name a stage: a name is a letter, then letters, digits, '-', '_' and '.'"
        )
    lower = name.lower()
    if lower in _RESERVED:
        raise Refused(f"{name} means something else in a recipe")
    for mark in document.stages:
        stage = mark.stage
        if stage.index == index:
            continue
        if stage.name == lower:
            raise Refused(f"there is a stage {name} already, in line {stage.from_.span.line}")
    old = document.stages[index].stage.name
    for mark in document.stages:
        # An image of that name would turn into the stage.
        words = [mark.stage.from_.image, *named_sources(mark.stage)]
        if lower != old and any(word.text.lower() == lower for word in words):
            raise Refused(f"{name} is an image that the recipe uses, near line {mark.stage.from_.span.line}")
