"""Where the thing under the cursor is defined, and where else it is used."""

from __future__ import annotations

import os
from dataclasses import dataclass

from builder.lsp.document import Document, Range
from builder.lsp.stages import stage_at
from builder.lsp.variables import Declaration, variable_at
from grammar.ast import Add, Copy, From, Include, Instruction, Test, Word
from grammar.bases import parse_base


@dataclass(frozen=True, slots=True)
class Target:
    """A place to go to: `range` of this document, or of the file `path`, whose text is then `document`'s."""

    range: Range
    path: str | None = None
    document: Document | None = None


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A place that names a stage or a variable. `write`: it is the definition."""

    range: Range
    write: bool


def definition(document: Document, offset: int) -> Target | None:
    """Return where the stage, variable or file that is named at `offset` is defined."""
    found = stage_at(document, offset)
    if found is not None:
        return Target(document.stages[found[0]].target)
    used = variable_at(document, offset)
    if used is not None:
        declared = document.variables.declaration_of(used[0], offset)
        return Target(declared.range) if declared else None
    return _file(document, offset) or _outside(document, offset)


def _outside(document: Document, offset: int) -> Target | None:
    """From an ARG without a default to the one before FROM that gives it its value."""
    declared = _declaration_at(document, offset)
    if declared is None:
        return None
    return Target((document.variables.outside(declared) or declared).range)


def _file(document: Document, offset: int) -> Target | None:
    line = document.line_at(document.place(offset)[0])
    if line is None or line.instruction is None or not document.path:
        return None
    for word, stage in _paths(line.instruction):
        if document.range(word.span).touches(offset):
            name = parse_base(word.text).location if isinstance(line.instruction, From) else word.text
            path = os.path.normpath(os.path.join(os.path.dirname(document.path), name))
            return _in_file(path, stage) if os.path.isfile(path) else None
    return None


def _paths(instruction: Instruction) -> list[tuple[Word, str]]:
    """Return the words of an instruction that name files beside the recipe, each with the stage that is meant
    in it."""
    words: list[Word] = []
    if isinstance(instruction, From):
        base = parse_base(instruction.image.text)
        return [(instruction.image, base.stage)] if base.kind == "recipe" else []
    if isinstance(instruction, Include):
        words = [instruction.path]
    elif isinstance(instruction, Test) and instruction.testinfra is not None:
        words = [instruction.testinfra]
    elif isinstance(instruction, Add) or (isinstance(instruction, Copy) and instruction.from_ is None):
        words = [word.replace(text=word.text.lstrip("/")) for word in instruction.sources]
    return [(word, "") for word in words]


def _in_file(path: str, stage: str) -> Target:
    """Return the stage of another recipe, or its beginning."""
    other = opened(path) if stage else None
    if other is None:
        return Target(Range(0, 0), path)
    for mark in other.stages:
        if mark.stage.name == stage.lower() or str(mark.stage.index) == stage:
            return Target(mark.target, path, other)
    return Target(Range(0, 0), path)


def opened(path: str) -> Document | None:
    """Return another recipe as it is on disk; None if it cannot be read."""
    from builder.errors import BuildError
    from builder.recipes import read_recipe

    try:
        return Document(read_recipe(path).decode("utf-8", "replace"), path)
    except (BuildError, OSError):
        return None


def occurrences(document: Document, offset: int) -> list[Occurrence]:
    """Return every place that names the stage or variable at `offset`, in order."""
    found = stage_at(document, offset)
    if found is not None:
        places = stage_occurrences(document, found[0])
    else:
        declared = _meant(document, offset)
        places = _variable_occurrences(document, declared) if declared else []
    return sorted(places, key=lambda each: each.range.start)


def stage_occurrences(document: Document, index: int) -> list[Occurrence]:
    """Return every place that names the stage number `index`."""
    mark = document.stages[index]
    places = [Occurrence(mark.name, True)] if mark.name else []
    return places + [Occurrence(use.range, False) for use in document.stage_uses if use.index == index]


def _meant(document: Document, offset: int) -> Declaration | None:
    used = variable_at(document, offset)
    if used is not None:
        return document.variables.declaration_of(used[0], offset)
    return _declaration_at(document, offset)


def _declaration_at(document: Document, offset: int) -> Declaration | None:
    for declarations in document.variables.by_name.values():
        for declared in declarations:
            if declared.range.touches(offset):
                return declared
    return None


def _variable_occurrences(document: Document, declared: Declaration) -> list[Occurrence]:
    uses = [
        Occurrence(where, False)
        for name, where in document.variables.uses()
        if name == declared.name and document.variables.declaration_of(name, where.start) == declared
    ]
    return [Occurrence(declared.range, True), *uses]
