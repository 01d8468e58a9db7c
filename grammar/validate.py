"""What can be wrong with a recipe that parses, and shows without disk, arguments or base images."""

from __future__ import annotations

from grammar.ast import (
    Add,
    Copy,
    Expose,
    Fragment,
    From,
    Instruction,
    Onbuild,
    Recipe,
    Run,
    Stage,
    Stopsignal,
    Word,
)
from grammar.bases import TRANSPORTS, parse_base
from grammar.errors import RecipeError
from grammar.ports import check_ports
from grammar.signals import check_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from grammar.source import Span


def validate_recipe(recipe: Recipe) -> None:
    """Raise RecipeError for the first mistake in `recipe`."""
    for stage in recipe.stages:
        _check_from(stage.from_)
        _check_instructions(stage.instructions)
    _check_cycles(recipe)


def validate_fragment(fragment: Fragment) -> None:
    """Raise RecipeError for the first mistake in `fragment`."""
    _check_instructions(fragment.instructions)


def _check_from(from_: From) -> None:
    if not from_.image.plain:
        return
    base = parse_base(from_.image.text)
    span = from_.image.span
    if base.kind == "transport" and base.transport not in TRANSPORTS:
        from grammar.suggest import did_you_mean

        hint = did_you_mean(base.transport, TRANSPORTS) or f"Known are {', '.join(TRANSPORTS)}."
        raise RecipeError(f"unknown transport: {base.transport}://", span, hint=hint, code="recipe/transport")
    if base.kind == "transport" and not base.location:
        raise RecipeError(f"FROM {base.transport}:// names nothing", span, code="recipe/transport")
    if base.transport == "mmdebstrap":
        return
    given = {
        "--variant": from_.variant,
        "--include": from_.include[0] if from_.include else None,
        "--mirror": from_.mirror[0] if from_.mirror else None,
        "--keyring": from_.keyring,
    }
    for flag, word in given.items():
        if word is not None:
            raise RecipeError(
                f"{flag} belongs to FROM mmdebstrap://SUITE",
                word.span,
                hint="Install packages on another base with PACKAGES apt NAME …"
                if flag == "--include"
                else None,
                code="recipe/flag",
            )


def _check_instructions(instructions: Iterable[Instruction]) -> None:
    for instruction in instructions:
        if isinstance(instruction, Onbuild):
            instruction = instruction.trigger
        if isinstance(instruction, Expose):
            for port in instruction.ports:
                if port.plain:
                    check_ports(port.text, port.span)
        elif isinstance(instruction, Stopsignal):
            if instruction.signal.plain:
                check_signal(instruction.signal.text, instruction.signal.span)
        elif isinstance(instruction, Copy | Add):
            _check_files(instruction)


def _check_files(instruction: Copy | Add) -> None:
    """Several sources need a destination that is a directory by its name."""
    count = len(instruction.sources) + len(instruction.heredocs)
    dest = instruction.dest
    if (
        count > 1
        and dest.plain
        and not dest.text.endswith(("/", "/.", "/.."))
        and dest.text not in (".", "..")
    ):
        raise RecipeError(
            f"{instruction.keyword} of several sources needs a destination that ends in /",
            dest.span,
            hint="A destination that ends in / is a directory.",
            code="recipe/destination",
        )


def _references(stage: Stage) -> Iterator[Word]:
    """Yield the words of `stage` that name what files are taken from."""
    for instruction in stage.instructions:
        if isinstance(instruction, Copy) and instruction.from_ is not None:
            yield instruction.from_
        elif isinstance(instruction, Run):
            for mount in instruction.mounts:
                from_ = mount.option("from")
                if from_ is not None:
                    yield from_


def find_stage(stages: Sequence[Stage], name: str) -> Stage | None:
    """Return the stage called `name`, case aside, or with the number `name`. Of two of a name the later one
    counts.
    """
    if _is_number(name):
        return stages[int(name)] if len(name) < 9 and int(name) < len(stages) else None
    wanted = name.lower()
    for stage in reversed(stages):
        if stage.name == wanted:
            return stage
    return None


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _check_cycles(recipe: Recipe) -> None:
    """Raise RecipeError for a stage that needs itself, and for a stage number that there is not."""
    named = {stage.name: stage for stage in recipe.stages if stage.name}
    earlier: dict[str, int] = {}
    needs: list[list[tuple[int, Span]]] = []
    for stage in recipe.stages:
        edges: list[tuple[int, Span]] = []
        base = earlier.get(stage.from_.image.text.lower())
        if base is not None:
            edges.append((base, stage.from_.image.span))
        for word in _references(stage):
            target = (
                find_stage(recipe.stages, word.text)
                if _is_number(word.text)
                else named.get(word.text.lower())
            )
            if target is not None:
                edges.append((target.index, word.span))
            elif _is_number(word.text):
                raise _no_such_stage(word, len(recipe.stages))
        needs.append(edges)
        if stage.name:
            earlier[stage.name] = stage.index
    _visit_all(recipe, needs)


def _no_such_stage(word: Word, count: int) -> RecipeError:
    return RecipeError(
        f"there is no stage {word.text}",
        word.span,
        hint=f"The recipe has {count} stages, 0 to {count - 1}."
        if count > 1
        else "The recipe has one stage, 0.",
        code="recipe/unknown-stage",
    )


def _visit_all(recipe: Recipe, needs: list[list[tuple[int, Span]]]) -> None:
    """Walk the stages depth first, with a stack of our own: there may be thousands."""
    done: set[int] = set()
    for root in range(len(needs)):
        path: list[int] = [root]
        pending = [iter(needs[root])]
        on_path = {root}
        while path:
            edge = next(pending[-1], None)
            if edge is None:
                done.add(path[-1])
                on_path.discard(path.pop())
                pending.pop()
                continue
            index, span = edge
            if index in on_path:
                cycle = [*path[path.index(index) :], index]
                raise RecipeError(
                    "the stages need each other: " + " -> ".join(_name(recipe.stages[i]) for i in cycle),
                    span,
                    hint="A stage cannot take files from itself, or from a stage that is built on it.",
                    code="recipe/cycle",
                )
            if index not in done:
                path.append(index)
                on_path.add(index)
                pending.append(iter(needs[index]))


def _name(stage: Stage) -> str:
    return stage.name or f"stage {stage.index}"
