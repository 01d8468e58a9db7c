"""INCLUDE: fragments put in their places. Pure: whoever calls reads the files.

A linked recipe has in each INCLUDE the fragment that it names, whose own are linked too. Every place in it
tells who included it, since the same fragment may stand in a recipe several times.
"""

from __future__ import annotations

from grammar.ast import Arg, Fragment, Include, Instruction, Recipe
from grammar.errors import RecipeError
from grammar.expand import expand
from grammar.node import Node
from grammar.source import Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

DEEPEST = 20
"""INCLUDEs within each other."""

MOST = 1000
"""INCLUDEs of one recipe, those in fragments counted each time: twenty files that include the next one twice
would fill any memory."""


class Files(Node):
    """How fragments are found and read.

    `locate` gets the path of a file, and the path that an INCLUDE in it names: it returns that path as errors
    show it. `identity` returns what tells the file at a path from all others, whatever it is called. `read`
    returns the fragment there; what it raises gets the place of the INCLUDE, unless it has one.
    """

    locate: Callable[[str, str], str]
    identity: Callable[[str], str]
    read: Callable[[str], Fragment]


def link(recipe: Recipe, files: Files) -> Recipe:
    """Return `recipe` with the fragment of each INCLUDE in it. Raises what `files.read` raises, and
    RecipeError: a cycle, too many, an argument that a fragment does not have.
    """
    if not any(isinstance(each, Include) for stage in recipe.stages for each in stage.instructions):
        return recipe
    linker = _Linker(files)
    escape = recipe.directives.escape
    above = {files.identity(recipe.source): recipe.source}
    stages = [
        stage.replace(instructions=linker.linked(stage.instructions, escape, above))
        for stage in recipe.stages
    ]
    return recipe.replace(stages=tuple(stages))


def spliced(instructions: Iterable[Instruction]) -> Iterator[Instruction]:
    """Yield `instructions`, in place of each INCLUDE those of its fragment."""
    for instruction in instructions:
        if isinstance(instruction, Include) and instruction.fragment is not None:
            yield from spliced(instruction.fragment.instructions)
        else:
            yield instruction


def path_of(include: Include, escape: str) -> str:
    """Return the path that an INCLUDE names, as it is in the file's directory. Raises RecipeError."""
    path = expand(include.path.text, lambda _name: None, escape=escape, span=include.path.span)
    if not path:
        raise RecipeError("INCLUDE: the path is empty", include.path.span, code="recipe/include")
    return path


def arguments(fragment: Fragment) -> list[str]:
    """Return the names of a fragment's own ARGs."""
    return [pair.key.text for each in fragment.instructions if isinstance(each, Arg) for pair in each.pairs]


def check_arguments(include: Include, fragment: Fragment, path: str) -> None:
    """Raise RecipeError (include/argument) if `include` gives a value to what is no ARG of the fragment at
    `path`."""
    known = arguments(fragment)
    for pair in include.pairs:
        if pair.key.text not in known:
            from grammar.suggest import did_you_mean

            there = f"its ARGs: {', '.join(dict.fromkeys(known))}" if known else "it has no ARG at all"
            raise RecipeError(
                f"{path} has no ARG {pair.key.text}",
                pair.key.span,
                hint=did_you_mean(pair.key.text, known) or there,
                code="include/argument",
            )


def refuse_cycle(include: Include, path: str, identity: str, above: dict[str, str]) -> None:
    """Raise RecipeError (include/cycle) if the file at `path` is among those that include it. `above` are
    these, the first one first: identity and path."""
    if identity in above:
        paths = list(above.values())
        circle = " -> ".join([*paths[[*above].index(identity) :], path])
        message = f"files include each other in a circle: {circle}"
        raise RecipeError(message, include.span, code="include/cycle")


class _Linker:
    """Puts fragments in their places."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._count = 0

    def linked(
        self, instructions: tuple[Instruction, ...], escape: str, above: dict[str, str]
    ) -> tuple[Instruction, ...]:
        """Return `instructions` with their fragments. `above` are the files that they stand in, the recipe
        first: identity and path."""
        return tuple(
            [
                self._filled(each, escape, above) if isinstance(each, Include) else each
                for each in instructions
            ]
        )

    def _filled(self, include: Include, escape: str, above: dict[str, str]) -> Include:
        self._count += 1
        paths = list(above.values())
        if self._count > MOST or len(paths) > DEEPEST:
            what = f"more than {MOST}" if self._count > MOST else f"more than {DEEPEST} nested"
            raise RecipeError(f"{paths[0]}: {what} INCLUDEs", include.span, code="include/limit")
        path = self._files.locate(paths[-1], path_of(include, escape))
        identity = self._files.identity(path)
        refuse_cycle(include, path, identity, above)
        chain = (include.span.plain, *include.span.chain)
        fragment: Fragment = _relocated(self._read(path, include, chain), chain)
        check_arguments(include, fragment, path)
        inside = {**above, identity: path}
        below = self.linked(fragment.instructions, fragment.directives.escape, inside)
        return include.replace(fragment=fragment.replace(instructions=below))

    def _read(self, path: str, include: Include, chain: tuple[Span, ...]) -> Fragment:
        try:
            return self._files.read(path)
        except Exception as error:
            found = getattr(error, "span", None)
            error.span = include.path.span if found is None else found.included(chain)  # type: ignore[attr-defined]
            raise


def _relocated(value: Any, chain: tuple[Span, ...]) -> Any:
    """Return a node with `chain` in all of its places."""
    if isinstance(value, Span):
        return value.included(chain)
    if isinstance(value, Node):
        return type(value).make([_relocated(field, chain) for field in value.values()])
    if isinstance(value, tuple):
        return tuple([_relocated(item, chain) for item in value])
    return value
