"""The stages of a recipe, and every place that names one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from builder.lsp.document import Document, Range
from builder.lsp.variables import known_text
from grammar.ast import Copy, From, Run, Stage, Word
from grammar.validate import find_stage


@dataclass(frozen=True, slots=True)
class StageMark:
    """A stage: the place of its name after AS (None: it has none), and of its FROM instruction."""

    stage: Stage
    name: Range | None
    from_: Range

    @property
    def target(self) -> Range:
        """Where an editor goes to."""
        return self.name or self.from_


@dataclass(frozen=True, slots=True)
class StageUse:
    """A place that names the stage number `index`. `exact`: the range is just the name; `variable`: a
    variable stands there whose default is the name."""

    index: int
    range: Range
    number: bool
    variable: bool
    exact: bool


def stage_marks(document: Document) -> list[StageMark]:
    """Return the stages in order; none of a fragment."""
    recipe = document.reading.recipe
    if recipe is None or document.reading.fragment:
        return []
    marks: list[StageMark] = []
    for line in document.reading.lines:
        if not isinstance(line.instruction, From):
            continue
        types = [token.type for token in line.tokens]
        name = line.tokens[types.index("AS") + 1].span if "AS" in types else None
        stage = recipe.stages[len(marks)]
        marks.append(
            StageMark(stage, document.range(name) if name else None, document.range(stage.from_.span))
        )
    return marks


def stage_uses(document: Document) -> list[StageUse]:
    """Return every place that names a stage, AS aside."""
    recipe = document.reading.recipe
    if recipe is None or document.reading.fragment:
        return []
    found: list[StageUse] = []
    earlier: dict[str, int] = {}
    for stage in recipe.stages:
        word = stage.from_.image
        name = known_text(document, word, word.span.line)
        if name is not None and name.lower() in earlier:
            found.append(_use(document, word, earlier[name.lower()], variable="$" in word.text))
        for word in named_sources(stage):
            target = find_stage(recipe.stages, word.text)
            if target is not None:
                found.append(_use(document, word, target.index))
        if stage.name:
            earlier[stage.name] = stage.index
    return found


def named_sources(stage: Stage) -> Iterator[Word]:
    """Yield the words of a stage that say where its files come from: `--from`, and `from` of mounts."""
    for instruction in stage.instructions:
        if isinstance(instruction, Copy) and instruction.from_ is not None:
            yield instruction.from_
        elif isinstance(instruction, Run):
            for mount in instruction.mounts:
                from_ = mount.option("from")
                if from_ is not None:
                    yield from_


def _use(document: Document, word: Word, index: int, *, variable: bool = False) -> StageUse:
    where = document.range(word.span)
    text = document.slice(where)
    exact = text == word.text
    if not exact and not variable and text.count(word.text) == 1:
        # It stands in quotes, or among other options.
        start = where.start + text.index(word.text)
        where, exact = Range(start, start + len(word.text)), True
    return StageUse(index, where, word.text.isdecimal(), variable, exact)


def stage_at(document: Document, offset: int) -> tuple[int, Range] | None:
    """Return the number of the stage that is named at `offset`, and the place of the name. A variable names
    none."""
    for use in document.stage_uses:
        if not use.variable and use.range.touches(offset):
            return use.index, use.range
    for mark in document.stages:
        if mark.name is not None and mark.name.touches(offset):
            return mark.stage.index, mark.name
    return None


def shown(stage: Stage) -> str:
    """Return what a stage is called."""
    return stage.name or f"stage {stage.index}"
