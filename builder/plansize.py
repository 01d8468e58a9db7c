"""How large a plan may become. A recipe of a few kilobytes can ask for any amount: each RUN has all variables
that were set before it, an EXPOSE all ports of its ranges, and `ENV a=$a$a` twice of what was there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import PlanError
from builder.instructions import apply
from builder.steps import CopyStep, ExecStep

if TYPE_CHECKING:
    from builder.stagestate import StageState
    from builder.steps import Step
    from grammar.ast import Instruction
    from grammar.source import Span

LIMIT = 64 * 1024 * 1024
"""Characters that the steps of all stages may come to."""

_VARIABLE = 64
"""What one variable of one command takes, in characters, but for those that it has in common with others."""


class PlanSize:
    """Adds up what has been planned."""

    __slots__ = ("_sum",)

    def __init__(self) -> None:
        self._sum = 0

    def apply(self, state: StageState, instruction: Instruction) -> None:
        """Do what `instructions.apply` does. Raises PlanError (recipe/too-large) also for what is too
        much.
        """
        before = len(state.steps)
        apply(state, instruction)
        for step in state.steps[before:]:
            self._add(step, instruction.span)

    def _add(self, step: Step, span: Span) -> None:
        self._sum += len(getattr(step, "created_by", ""))
        if isinstance(step, ExecStep):
            self._sum += _VARIABLE * len(step.env)
        elif isinstance(step, CopyStep):
            self._sum += sum(len(data) for _, data in step.documents)
        if self._sum > LIMIT:
            raise PlanError(
                f"what the instructions up to here come to is more than {LIMIT >> 20} MiB",
                code="recipe/too-large",
                span=span,
                hint="Set variables, and expose ports, where they are needed.",
            )
