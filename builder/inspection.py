"""Who looks on while the steps of a build are found and made: it may know better, and keep what fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from builder.errors import BuildError

if TYPE_CHECKING:
    from builder.executor import Executor
    from builder.keys import StepKey
    from builder.stepcache import StepLine
    from builder.steps import LayerStep, PlannedStage, TestStep
    from builder.surroundings import Surroundings
    from cache.oci.digest import ChainID
    from cache.records import Record
    from cache.scratch import Staging

Work = Callable[["Staging"], None]
"""Fills a staging with what a step makes."""


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step that has begun, on the root filesystem `parent`. `no_cache`: why it is to run, whatever is
    known.
    """

    step: LayerStep | TestStep
    line: StepLine
    key: StepKey
    work: Work
    no_cache: str
    parent: ChainID | None
    recipe: str
    stage: PlannedStage
    around: Surroundings

    def lower(self) -> tuple[str, ...]:
        """Return the directories below its upper, the top first."""
        return self.around.store.layers.lowerdirs(self.parent) if self.parent else ()


class Inspection(Protocol):
    """Called by the thread of the step's stage."""

    def reached(self, step: OpenStep) -> Record | None:
        """Return what is known of a step before the cache is asked, None for nothing. What it raises ends the
        build.
        """

    def makes(self, step: OpenStep) -> None:
        """Be told that a step has to run. What it raises ends the build."""

    def failed(self, step: OpenStep, staging: Staging, error: BuildError) -> None:
        """Be told that a step has failed, with what it has made by then; the staging may be moved away."""

    def executor(self, executor: Callable[[], Executor]) -> Executor:
        """Return what runs the next command."""


def watched(inspection: Inspection | None, step: OpenStep) -> Work:
    """Return what makes `step`, looked on by `inspection`."""
    if inspection is None:
        return step.work
    inspection.makes(step)

    def work(staging: Staging) -> None:
        try:
            step.work(staging)
        except BuildError as error:
            inspection.failed(step, staging, error)
            raise

    return work
