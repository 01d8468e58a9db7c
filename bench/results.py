"""The raw figures as JSON, for other programs and for a later comparison."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bench.samples import Sample, Series

VERSION = 1


class BadResults(Exception):
    """A file is not one that this suite wrote."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One workload: its name and title, and what was measured. `failure`: why nothing was."""

    name: str
    title: str
    series: tuple[Series, ...] = ()
    failure: str | None = None

    def named(self, name: str) -> Series | None:
        """Return the series of that name."""
        return next((one for one in self.series if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Results:
    """All that was measured at one time. `scale`: the size of the workloads, 1 being the whole."""

    machine: str
    versions: dict[str, str]
    rounds: int
    scale: float
    workloads: tuple[Measured, ...]


def to_json(results: Results) -> str:
    """Return `results` as JSON, one run a line at most, so that differences of two files can be read."""
    document = {
        "version": VERSION,
        "machine": results.machine,
        "versions": results.versions,
        "rounds": results.rounds,
        "scale": results.scale,
        "workloads": [
            {
                "name": one.name,
                "title": one.title,
                "failure": one.failure,
                "series": [
                    {
                        "name": series.name,
                        "kind": series.kind,
                        "wall_seconds": [round(sample.wall, 5) for sample in series.samples],
                        "cpu_seconds": [_rounded(sample.cpu) for sample in series.samples],
                        "peak_bytes": series.peak,
                        "failure": series.failure,
                    }
                    for series in one.series
                ],
            }
            for one in results.workloads
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def from_json(text: str) -> Results:
    """Return what to_json() wrote. Raises BadResults."""
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise BadResults(f"version {document['version']} is not known")
        return Results(
            document["machine"],
            dict(document["versions"]),
            document["rounds"],
            document["scale"],
            tuple(_measured(one) for one in document["workloads"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadResults(f"not written by this suite: {error!r}") from None


def _measured(one: dict[str, Any]) -> Measured:
    return Measured(one["name"], one["title"], tuple(map(_series, one["series"])), one["failure"])


def _series(one: dict[str, Any]) -> Series:
    samples = tuple(map(Sample, one["wall_seconds"], one["cpu_seconds"]))
    return Series(one["name"], one["kind"], samples, one["peak_bytes"], one["failure"])
