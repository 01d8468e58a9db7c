"""The figures as pictures (PNG). matplotlib is the extra `bench`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.results import Results
from bench.samples import Measure, Series, ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {
    "pybuild": "#1b6ca8",
    "BuildKit": "#e07b39",
    "buildah": "#7a9e3c",
    "buildah-chroot": "#a9c46c",
    "skopeo": "#8d6cab",
}
_OTHER = "#999999"
_BAR = 0.2
"""The height of a bar; rows are 1 apart, and have up to four."""
_MEASURES: tuple[tuple[Measure, str, str], ...] = (
    ("wall", "times", "time"),
    ("cpu", "processor", "processor time"),
    ("peak", "memory", "peak memory"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: how `y` grows with `x`."""

    name: str
    points: tuple[tuple[float, float], ...]


def of_results(results: Results, directory: str) -> list[str]:
    """Write a picture of each measure into `directory`/pictures; return their paths from `directory`."""
    os.makedirs(os.path.join(directory, "pictures"), exist_ok=True)
    written = []
    for measure, name, title in _MEASURES:
        rows = bars(results, measure)
        if rows:
            path = f"pictures/{name}.png"
            _bars(
                rows, f"{title} by that of pybuild: beyond 1 a peer needs more", os.path.join(directory, path)
            )
            written.append(path)
    return written


def bars(results: Results, measure: Measure) -> list[tuple[str, list[tuple[str, float]]]]:
    """Return, for each workload that pybuild does, the peers' ratios to it, with pybuild's own 1 before
    them.
    """
    rows = []
    for workload in results.workloads:
        ours = next((one for one in workload.series if one.kind == "ours"), None)
        peers = [one for one in workload.series if one is ours or one.kind == "peer"]
        found = [(one.name, value) for one in peers if (value := _ratio(one, ours, measure)) is not None]
        if len(found) > 1:
            rows.append((workload.title.replace("`", ""), found))
    return rows


def _ratio(one: Series, ours: Series | None, measure: Measure) -> float | None:
    return ratio(one.value(measure), ours.value(measure) if ours is not None else None)


def _bars(rows: Sequence[tuple[str, list[tuple[str, float]]]], title: str, path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 0.9 + 0.62 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for name in dict.fromkeys(name for _, found in rows for name, _ in found):
        places, values = [], []
        for row, (_, found) in enumerate(rows):
            for number, (other, value) in enumerate(found):
                if other == name:
                    places.append(row + (number - (len(found) - 1) / 2) * _BAR)
                    values.append(value)
        drawn = axes.barh(places, values, _BAR, label=name, color=_COLOURS.get(name, _OTHER))
        axes.bar_label(drawn, fmt="%.2g", padding=2, fontsize=7)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.margins(x=0.1)
    _finish(axes, title)
    figure.savefig(path, dpi=110)


def curve(lines: Sequence[Line], title: str, x: str, y: str, path: str) -> None:
    """Write the picture of curves to `path`, both axes logarithmic: what grows alike is parallel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for line in lines:
        if not line.points:
            continue
        axes.plot(*zip(*line.points, strict=True), marker="o", markersize=4, label=line.name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, which="major", alpha=0.3)
    _finish(axes, title)
    figure.savefig(path, dpi=110)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.legend(fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
