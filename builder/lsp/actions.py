"""What an editor offers to do about a diagnostic: the near miss in its place, or a comment that skips the
rule."""

from __future__ import annotations

import re
from dataclasses import dataclass

from builder.lsp.document import Document, Range
from grammar.diagnostics import Diagnostic
from grammar.lint import UNKNOWN_RULE
from grammar.suggest import nearest

_HINT = re.compile(r"Did you mean (\S+)\?")
_PIECE = re.compile(r"[^\s=,]+")


@dataclass(frozen=True, slots=True)
class Edit:
    """`text` in place of a range."""

    range: Range
    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """What can be done about `diagnostic`. `preferred`: most likely what is wanted."""

    title: str
    diagnostic: Diagnostic
    edits: tuple[Edit, ...]
    preferred: bool


def actions(document: Document, where: Range) -> list[Action]:
    """Return what can be done about the diagnostics that touch a range."""
    found: list[Action] = []
    for diagnostic in document.problems:
        place = document.range(diagnostic.span)
        if place.start > where.end or place.end < where.start:
            continue
        for action in (_near_miss(document, diagnostic, place), _skip(document, diagnostic)):
            if action is not None:
                found.append(action)
    return found


def _near_miss(document: Document, diagnostic: Diagnostic, place: Range) -> Action | None:
    match = _HINT.search(diagnostic.hint or "")
    if match is None:
        return None
    wanted = match[1]
    text = document.slice(place)
    for piece in _PIECE.finditer(text):
        if piece[0] != wanted and nearest(piece[0].lstrip("$"), [wanted.lstrip("$")]):
            start = place.start + piece.start()
            edit = Edit(Range(start, start + len(piece[0])), wanted)
            return Action(f"Replace {piece[0]} by {wanted}", diagnostic, (edit,), True)
    return None


def _skip(document: Document, diagnostic: Diagnostic) -> Action | None:
    """Return the action that puts a comment above the instruction. Errors cannot be skipped."""
    if "/" in diagnostic.rule or diagnostic.rule == UNKNOWN_RULE:
        return None
    line = document.line_at(diagnostic.span.line)
    if line is None:
        return None
    start = document.offset(line.first, 1)
    text = document.lines[line.first - 1]
    indent = text[: len(text) - len(text.lstrip(" \t"))]
    end = "\r\n" if "\r\n" in document.text else "\n"
    edit = Edit(Range(start, start), f"{indent}# pybuild: skip={diagnostic.rule}{end}")
    return Action(f"Skip {diagnostic.rule} here", diagnostic, (edit,), False)


def formatting(document: Document) -> list[Edit]:
    """Return what brings a document into its usual form (`pybuild fmt`): one edit of the lines that differ;
    none if it cannot be read."""
    from grammar.errors import RecipeError
    from grammar.format import format_source

    try:
        after = format_source(document.source)
    except RecipeError:
        return []
    before = document.text
    if after == before:
        return []
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    head = tail = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    start = sum(map(len, old[:head]))
    end = len(before) - sum(map(len, old[len(old) - tail :]))
    return [Edit(Range(start, end), "".join(new[head : len(new) - tail]))]
