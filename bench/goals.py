"""What is to be reached, and whether it is: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.samples import Measure, Series, best_of

BEST_PEER = "the best peer"


@dataclass(frozen=True, slots=True)
class Goal:
    """`subject` is to take at most `factor` times what the subjects `against` take together.

    `against` may be (BEST_PEER,), the peer that has the least.
    """

    factor: float
    against: tuple[str, ...] = (BEST_PEER,)
    subject: str = "pybuild"
    measure: Measure = "wall"

    @property
    def text(self) -> str:
        what = "peak memory: " if self.measure == "peak" else ""
        who = "" if self.subject == "pybuild" else f"{self.subject}: "
        return f"{what}{who}at most {self.factor:g} × {' + '.join(self.against)}"


MEMORY = Goal(1.0, measure="peak")
"""What holds of every workload: less memory than the peer that takes least."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ratio`: what was measured, by what it is compared with; `other`: its name. None: no such figures."""

    goal: Goal
    ratio: float | None
    other: str

    @property
    def reached(self) -> bool | None:
        return None if self.ratio is None else self.ratio <= self.goal.factor


def judge(goal: Goal, series: Sequence[Series]) -> Verdict:
    """Hold the measured `series` of a workload against `goal`."""
    by_name = {one.name: one for one in series}
    others: list[Series] = []
    for name in goal.against:
        if name == BEST_PEER:
            best = best_of([one for one in series if one.kind == "peer"], goal.measure)
            others += [best] if best is not None else []
        elif name in by_name:
            others.append(by_name[name])
    values = [value for one in others if (value := one.value(goal.measure)) is not None]
    subject = by_name.get(goal.subject)
    ours = subject.value(goal.measure) if subject is not None else None
    other = " + ".join(one.name for one in others)
    if ours is None or len(values) < len(goal.against) or sum(values) == 0:
        return Verdict(goal, None, other)
    return Verdict(goal, ours / sum(values), other)
