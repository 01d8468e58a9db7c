"""`pybuild shell`: a recipe that is cut off before a line, with a RUN in its place, where the shell is."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from builder.debug.entering import Left, Switch, open_shell
from builder.debug.keeping import Keeper
from builder.debug.kit import Kit
from builder.debug.shellexec import ShellEnded, ShellExecutor
from builder.errors import PlanError
from builder.events import StepStarted
from builder.recipes import RecipeLoader
from builder.steps import ExecStep
from grammar import ast

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from builder.events import Emit, Event
    from builder.executor import Executor
    from builder.inspection import OpenStep
    from cache.records import Record
    from cache.store import Store
    from grammar.ast import Recipe, Stage

_MARK = "pybuild shell"


def cut(recipe: Recipe, stage: str | None, line: int | None) -> tuple[Recipe, str]:
    """Return `recipe` with a RUN that stands for the shell before `line`, else at the end of `stage`, else of
    the last one; and where that is, in words. What comes after it is gone, and so are the tests.
    Raises PlanError.
    """
    number = _stage_of_line(recipe, line) if line is not None else _stage_named(recipe, stage)
    found = recipe.stages[number]
    kept = list(found.instructions)
    where = f"at the end of stage {found.name or number}"
    if line is not None:
        after = [each for each in kept if _last_line(each) >= line]
        kept = kept[: len(kept) - len(after)]
        where = f"before line {after[0].span.line}" if after else where
    # The last stage is what is built.
    above = (each.replace(instructions=_untested(each.instructions)) for each in recipe.stages[:number])
    stages = (*above, found.replace(instructions=(*_untested(kept), _run(found))))
    return recipe.replace(stages=stages), where


def _untested(instructions: Iterable[ast.Instruction]) -> tuple[ast.Instruction, ...]:
    return tuple(each for each in instructions if not isinstance(each, ast.Test))


def _stage_of_line(recipe: Recipe, line: int) -> int:
    begun = [n for n, stage in enumerate(recipe.stages) if stage.from_.span.line <= line]
    if not begun:
        raise PlanError(f"line {line} stands before the first FROM", code="shell/line")
    stage = recipe.stages[begun[-1]]
    end = max(map(_last_line, (stage.from_, *stage.instructions)))
    if line > end and begun[-1] == len(recipe.stages) - 1:
        raise PlanError(
            f"there is no line {line}: the last instruction ends in line {end}", code="shell/line"
        )
    return begun[-1]


def _last_line(instruction: ast.Instruction) -> int:
    """Return the last line of an instruction, the documents below it included."""
    command = getattr(instruction, "command", None)
    documents = command.heredocs if isinstance(command, ast.Command) else getattr(instruction, "heredocs", ())
    return max([instruction.span.end_line, *(each.span.end_line for each in documents)])


def _stage_named(recipe: Recipe, name: str | None) -> int:
    if name is None:
        return len(recipe.stages) - 1
    for number, stage in enumerate(recipe.stages):
        if stage.name is not None and stage.name.lower() == name.lower():
            return number
    if name.isdecimal() and int(name) < len(recipe.stages):
        return int(name)
    from builder.lookup import nearest

    names = [stage.name for stage in recipe.stages if stage.name]
    raise PlanError(f"there is no stage {name}", code="stage/unknown", hint=nearest(name, names))


def _prompt(recipe: str) -> str:
    """Return what the shell asks with: it expands that."""
    return re.sub(r"[^\w.-]", "_", os.path.basename(recipe))


def _run(stage: Stage) -> ast.Run:
    from grammar.parser import parse
    from grammar.source import Source

    parsed = parse(Source("shell", f'FROM scratch\nRUN ["{_MARK}"]\n')).stages[0].instructions[0]
    assert isinstance(parsed, ast.Run)
    return parsed.replace(span=stage.from_.span)


class CuttingLoader(RecipeLoader):
    """Reads recipes as they are, but for the one at `path`, which it gives as `cut`."""

    def cutting(self, path: str, stage: str | None, line: int | None) -> None:
        """Give the recipe at `path` cut."""
        self._path, self._stage, self._line = path, stage, line
        self.where = ""

    def load(self, path: str) -> Recipe:
        """Return a recipe. Raises as RecipeLoader, PlanError."""
        recipe = super().load(path)
        if path != self._path:
            return recipe
        recipe, self.where = cut(recipe, self._stage, self._line)
        return recipe


class Shell(Keeper):
    """Opens the shell of a cut recipe, and ends the build. `status` is what the shell ended with."""

    def __init__(
        self,
        store: Store,
        arguments: argparse.Namespace,
        *,
        command: str | None,
        user: str,
        announce: Callable[[], None],
    ) -> None:
        """`announce` is called before the shell opens."""
        super().__init__(store, arguments)
        self.status = 0
        self.there = False
        self._command = command
        self._user = user
        self._announce = announce
        self._switch = Switch()

    def reached(self, step: OpenStep) -> Record | None:
        """Open the shell, if it is its place; raise Left then."""
        if not (isinstance(step.step, ExecStep) and step.step.argv == (_MARK,)):
            return super().reached(step)
        self.there = True
        store = step.around.store
        lower = step.lower()
        real = step.around.executor()
        with store.stage() as staging, Kit(store, lower, (), {}, _prompt(self.recipe)) as kit:
            self._announce()
            shell = ShellExecutor(real, kit, command=self._command, user=self._user)
            try:
                open_shell(self._switch, step, staging, shell)
            except ShellEnded as ended:
                self.status = ended.status
        raise Left

    def passing(self, emit: Emit) -> Emit:
        """Return `emit`, listened to; it is not told of the step that stands for the shell."""

        def emit_steps(event: Event) -> None:
            if not (isinstance(event, StepStarted) and event.text == f'RUN ["{_MARK}"]'):
                emit(event)

        return super().passing(emit_steps)

    def executor(self, executor: Callable[[], Executor]) -> Executor:
        """Return what runs the next command."""
        return self._switch.executor(executor)
