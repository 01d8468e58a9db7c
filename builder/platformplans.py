"""A recipe planned for several platforms: one graph of stages, in which what is the same is there once.

What a stage that is FROM --platform=$BUILDPLATFORM makes is for all of the platforms, unless one of its steps
uses a TARGET argument. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.steps import StageBase

if TYPE_CHECKING:
    from builder.plan import PlanOptions
    from builder.stage import StageResult
    from builder.steps import Base, Plan, PlannedStage


@dataclass(frozen=True, slots=True)
class PlatformPlan:
    """The plan for one platform. `results` are those of its bases, and of its stages that are done."""

    options: PlanOptions
    planned: Plan
    results: dict[Base, StageResult]

    @property
    def result(self) -> StageResult:
        """That of the target."""
        return self.results[StageBase(self.planned.stages[-1].index)]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A stage in the graph; `needs` are the indices of nodes. It is the stage of that number in each plan of
    `plans`, of which the first one says what it stands on.
    """

    index: int
    needs: tuple[int, ...]
    stage: PlannedStage
    plans: list[PlatformPlan] = field(default_factory=list)

    def finish(self, result: StageResult) -> None:
        """Tell every plan what the stage is."""
        for each in self.plans:
            each.results[StageBase(self.stage.index)] = result


def joined(plans: Sequence[PlatformPlan]) -> list[Node]:
    """Return the stages of all `plans`, those of a plan in its order."""
    nodes: list[Node] = []
    known: list[dict[int, Node]] = []
    for each in plans:
        own: dict[int, Node] = {}
        for stage in each.planned.stages:
            node = next((found for other in known if (found := _same(stage, own, other))), None)
            if node is None:
                node = Node(len(nodes), tuple(own[index].index for index in stage.needs), stage)
                nodes.append(node)
            node.plans.append(each)
            own[stage.index] = node
        known.append(own)
    return nodes


def _same(stage: PlannedStage, own: dict[int, Node], other: dict[int, Node]) -> Node | None:
    """Return the node of `other` that does the very same on the very same, if there is one."""
    node = other.get(stage.index)
    if node is None or node.stage != stage or any(own[need] is not other[need] for need in stage.needs):
        return None
    return node
