"""The outline of a document, and what of it can be folded."""

from __future__ import annotations

from dataclasses import dataclass

from builder.lsp.document import Document, Range
from builder.lsp.stages import shown
from grammar.ast import From, Heredoc, Instruction, Onbuild
from grammar.recover import Line

_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Symbol:
    """A stage (`kind` is "stage") or an instruction. `name` is shown, `detail` beside it; `selection` is what
    an editor goes to, within `range`."""

    kind: str
    name: str
    detail: str
    range: Range
    selection: Range
    children: tuple[Symbol, ...] = ()


@dataclass(frozen=True, slots=True)
class Fold:
    """Lines (of the grammar, from 1) that can be folded into the first one. `kind` is comment or region."""

    first: int
    last: int
    kind: str


def symbols(document: Document) -> list[Symbol]:
    """Return the outline: what stands before the first FROM, and the stages with their instructions."""
    out: list[Symbol] = []
    begun: tuple[Line, list[Symbol]] | None = None
    number = 0

    def close() -> None:
        nonlocal number
        if begun is not None:
            out.append(_stage(document, begun[0], tuple(begun[1]), number))
            number += 1

    for line in document.reading.lines:
        if line.instruction is None:
            continue
        if isinstance(line.instruction, From):
            close()
            begun = (line, [])
        else:
            (begun[1] if begun else out).append(_symbol(document, line, line.instruction))
    close()
    return out


def _stage(document: Document, line: Line, children: tuple[Symbol, ...], number: int) -> Symbol:
    whole = _whole(document, line)
    end = children[-1].range.end if children else whole.end
    mark = document.stages[number]
    detail = _cut(mark.stage.from_.image.text)
    return Symbol("stage", shown(mark.stage), detail, Range(whole.start, end), mark.target, children)


def _symbol(document: Document, line: Line, instruction: Instruction) -> Symbol:
    keyword = instruction.keyword
    if isinstance(instruction, Onbuild):
        keyword += f" {instruction.trigger.keyword}"
        instruction = instruction.trigger
    text = _cut(" ".join(instruction.text.split()))
    return Symbol("instruction", keyword, text, _whole(document, line), document.range(line.tokens[0].span))


def _whole(document: Document, line: Line) -> Range:
    """Return the place of a logical line with its documents."""
    start = document.range(line.tokens[0].span).start
    return Range(start, max(start, document.offset(line.last, len(document.lines[line.last - 1]) + 1)))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def folds(document: Document) -> list[Fold]:
    """Return what can be folded: stages, instructions on several lines, documents, runs of comments."""
    found = _comments(document)
    begun = last = 0
    for line in document.reading.lines:
        if line.instruction is None:
            continue
        if isinstance(line.instruction, From):
            found.append(Fold(begun, last, "region"))
            begun = line.first
        last = line.last
        found.append(Fold(line.first, line.bodies - 1, "region"))
        # The marker's line is that of the first document alone; the others begin at the line that ends the
        # one above.
        above = line.bodies - 1
        for document_ in _heredocs(line):
            found.append(Fold(above, document_.span.end_line, "region"))
            above = document_.span.end_line
    found.append(Fold(begun, last, "region"))
    whole = {(fold.first, fold.last): fold for fold in found if 0 < fold.first < fold.last}
    return [whole[key] for key in sorted(whole)]


def _heredocs(line: Line) -> list[Heredoc]:
    return [token.value for token in line.tokens if isinstance(token.value, Heredoc)]


def _comments(document: Document) -> list[Fold]:
    inside = {number for line in document.reading.lines for number in range(line.bodies, line.last + 1)}
    out: list[Fold] = []
    first = 0
    for number, text in enumerate([*document.lines, ""], 1):
        comment = text.lstrip().startswith("#") and number not in inside
        if comment and not first:
            first = number
        elif not comment and first:
            out.append(Fold(first, number - 1, "comment"))
            first = 0
    return out
