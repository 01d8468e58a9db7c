"""Variables of a recipe: where a use of one gets its value from, as far as the text alone tells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from builder.lsp.document import Document, Range
from grammar.ast import Arg, Env, Instruction, Pair, Word
from grammar.errors import RecipeError
from grammar.expand import expand

GLOBAL = -1
"""The number of the stage of what stands before the first FROM."""

_USE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_DEEPEST = 40
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Declaration:
    """An ARG or ENV of the stage number `stage`. `range` is the name's."""

    keyword: str
    name: str
    value: Word | None
    range: Range
    line: int
    stage: int


class Variables:
    """The declarations of a document, found by name."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.escape = "\\"
        self.parents: dict[int, int] = {}
        self.begins: list[int] = []
        """The line of each FROM."""
        self.by_name: dict[str, list[Declaration]] = {}
        recipe = document.reading.recipe
        if recipe is None:
            return
        self.escape = recipe.directives.escape
        self._note(GLOBAL, recipe.global_args)
        earlier: dict[str, int] = {}
        for stage in recipe.stages:
            self.begins.append(0 if document.reading.fragment else stage.from_.span.line)
            base = stage.from_.image.text.lower()
            if base in earlier:
                self.parents[stage.index] = earlier[base]
            if stage.name:
                earlier[stage.name] = stage.index
            self._note(stage.index, stage.instructions)

    def _note(self, stage: int, instructions: tuple[Instruction, ...]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Arg | Env):
                for pair in instruction.pairs:
                    self._note_pair(stage, instruction, pair)

    def _note_pair(self, stage: int, instruction: Arg | Env, pair: Pair) -> None:
        where = self.document.range(pair.key.span)
        found = Declaration(
            instruction.keyword, pair.key.text, pair.value, where, instruction.span.line, stage
        )
        self.by_name.setdefault(found.name, []).append(found)

    def stage_of(self, line: int) -> int:
        """Return the number of the stage that a line stands in. A FROM sees what stands before all of
        them."""
        if line in self.begins:
            return GLOBAL
        return sum(begin < line for begin in self.begins) - 1

    def seen(self, name: str, line: int) -> Iterator[Declaration]:
        """Yield the declarations of `name` that a use in `line` sees, the one that counts first."""
        stage: int | None = self.stage_of(line)
        declared = self.by_name.get(name, [])
        while stage is not None:
            yield from [d for d in reversed(declared) if d.stage == stage and d.line < line]
            stage = self.parents.get(stage)

    def names(self, line: int) -> dict[str, Declaration]:
        """Return all variables that `line` sees."""
        found = {name: next(self.seen(name, line), None) for name in self.by_name}
        return {name: declared for name, declared in found.items() if declared is not None}

    def outside(self, declared: Declaration) -> Declaration | None:
        """Return the ARG before the first FROM that gives an ARG without a default its value."""
        if declared.keyword != "ARG" or declared.value is not None or declared.stage == GLOBAL:
            return None
        return next((d for d in self.by_name.get(declared.name, ()) if d.stage == GLOBAL), None)

    def value(self, declared: Declaration) -> str | None:
        """Return its value where no build argument sets another; None if it cannot be known."""
        return _Evaluation(self).value(declared, 0)

    def uses(self) -> Iterator[tuple[str, Range]]:
        """Yield every use of a variable by its looks: name, and the name's place."""
        text = self.document.text
        for match in _USE.finditer(text):
            if text[match.start() - 1 : match.start()] != self.escape:
                yield match[1], Range(*match.span(1))

    def declaration_of(self, name: str, offset: int) -> Declaration | None:
        """Return where the variable that is used at `offset` was declared."""
        line = self.document.place(offset)[0]
        logical = self.document.line_at(line)
        return next(self.seen(name, logical.first if logical else line), None)


class _Unknown(Exception):
    pass


class _Evaluation:
    """One value worked out. Each declaration is looked at once: twenty lines of ENV a=$a$a double it as
    often."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.done: dict[Declaration, str | None] = {}

    def value(self, declared: Declaration, depth: int) -> str | None:
        if declared not in self.done:
            self.done[declared] = None if depth > _DEEPEST else self.work_out(declared, depth)
        return self.done[declared]

    def work_out(self, declared: Declaration, depth: int) -> str | None:
        if declared.keyword == "ARG":
            # Without a build argument, an ENV beats an ARG of its name, also one from before it.
            above = self.variables.seen(declared.name, declared.line)
            environment = next((d for d in above if d.keyword == "ENV"), None)
            if environment is not None:
                return self.value(environment, depth + 1)
        if declared.value is None:
            outside = self.variables.outside(declared)
            return self.value(outside, depth + 1) if outside else None
        return self.expanded(declared.value, declared.line, depth)

    def expanded(self, word: Word, line: int, depth: int) -> str | None:
        def lookup(name: str) -> str:
            found = next(self.variables.seen(name, line), None)
            value = self.value(found, depth + 1) if found else None
            if value is None:
                raise _Unknown
            return value

        try:
            text = expand(word.text, lookup, escape=self.variables.escape)
        except (_Unknown, RecipeError):
            return None
        return text if len(text) <= _LONGEST else None


def known_text(document: Document, word: Word, line: int) -> str | None:
    """Return what a word expands to in `line`, if that can be known."""
    if word.plain:
        return word.text
    return _Evaluation(document.variables).expanded(word, line, 0)


def variable_at(document: Document, offset: int) -> tuple[str, Range] | None:
    """Return the variable that is used at `offset`, and the place of its name."""
    start = document.text.rfind("\n", 0, offset) + 1
    end = document.text.find("\n", offset)
    line = document.text[start : end if end >= 0 else None]
    for match in _USE.finditer(line):
        before = line[match.start() - 1 : match.start()]
        if match.start() <= offset - start <= match.end() and before != document.variables.escape:
            return match[1], Range(start + match.start(1), start + match.end(1))
    return None
