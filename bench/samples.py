"""What was measured, as plain values: samples, their medians, and ratios of them. No effects."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

Kind = Literal["ours", "peer", "floor"]
"""ours: pybuild; peer: another builder; floor: what the machine needs for the core of the work alone."""

Measure = Literal["wall", "cpu", "peak"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds from start to end, and processor seconds; None where these cannot be told."""

    wall: float
    cpu: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """All runs of one subject. `peak`: bytes, of a run of its own; `failure`: why there are no figures."""

    name: str
    kind: Kind
    samples: tuple[Sample, ...] = ()
    peak: int | None = None
    failure: str | None = None

    @property
    def wall(self) -> float | None:
        """The median; None without samples."""
        return statistics.median(sample.wall for sample in self.samples) if self.samples else None

    @property
    def best(self) -> float | None:
        """The shortest run, in seconds."""
        return min((sample.wall for sample in self.samples), default=None)

    @property
    def spread(self) -> float | None:
        """The longest run by the shortest one."""
        walls = [sample.wall for sample in self.samples]
        return max(walls) / min(walls) if walls and min(walls) > 0 else None

    @property
    def cpu(self) -> float | None:
        """The median of the processor seconds; None without samples."""
        known = [sample.cpu for sample in self.samples if sample.cpu is not None]
        return statistics.median(known) if known else None

    def value(self, measure: Measure) -> float | None:
        """Return the figure that stands for this series; None if there is none."""
        return {"wall": self.wall, "cpu": self.cpu, "peak": self.peak}[measure]


def ratio(ours: float | None, other: float | None) -> float | None:
    """Return `ours` by `other`; None where one is missing or there is nothing to divide by."""
    return ours / other if ours is not None and other else None


def best_of(series: list[Series], measure: Measure) -> Series | None:
    """Return the one with the least figure; None if none has any."""
    known = [(value, one.name, one) for one in series if (value := one.value(measure)) is not None]
    return min(known, key=lambda item: item[:2])[2] if known else None
