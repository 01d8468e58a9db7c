"""bench/RESULTS.md: what was measured, as ratios, with the machine and the versions that they hold for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.goals import MEMORY, Goal, Verdict, judge
from bench.results import Measured, Results
from bench.samples import Series, ratio

_MARKS = {True: "yes", False: "**no**", None: "not measured"}


def markdown(results: Results, goals: Mapping[str, Sequence[Goal]], pictures: Sequence[str] = ()) -> str:
    """Return the page. `goals`: those of each workload, by its name; `pictures`: paths of plots beside
    the page.
    """
    lines = [
        "# Measured",
        "",
        "Written by `make bench`; nothing here is typed by hand. Raw figures: [results.json](results.json).",
        "",
        *_how(results),
        "",
        f"Machine: {results.machine}.",
        "",
        *(f"- {name}: {version}" for name, version in results.versions.items()),
        "",
        "## Goals",
        "",
        *_summary(results, goals),
    ]
    for picture in pictures:
        name = picture.rpartition("/")[2].removesuffix(".png")
        lines += ["", f"![{name}]({picture})"]
    for workload in results.workloads:
        lines += ["", f"## {workload.title}", ""]
        lines += _table(workload)
    return "\n".join(lines) + "\n"


def _how(results: Results) -> list[str]:
    small = results.scale != 1
    scale = [f"The workloads have {results.scale:g} of their size: this is a try."] if small else []
    return [
        f"Whole commands from start to exit: one run of each in turn, {results.rounds} rounds (fewer of",
        "what takes long), medians. Processor time: of the command with all its descendants, and of the",
        "daemon where there is one. Peak memory: the most that these held at one time (PSS, without the",
        "page cache), in a run that is not timed. A ratio is the other's figure by pybuild's.",
        *scale,
    ]


def verdicts(workload: Measured, goals: Sequence[Goal]) -> list[Verdict]:
    """Hold `workload` against its `goals`, and that of memory where there are peers."""
    peers = any(one.kind == "peer" for one in workload.series)
    return [judge(goal, workload.series) for goal in (*goals, *([MEMORY] if peers else []))]


def _summary(results: Results, goals: Mapping[str, Sequence[Goal]]) -> list[str]:
    rows = ["| workload | to reach | measured | reached |", "|---|---|---:|---|"]
    reached = total = 0
    for workload in results.workloads:
        for verdict in verdicts(workload, goals.get(workload.name, ())):
            measured = "" if verdict.ratio is None else f"{verdict.ratio:.2f} × {verdict.other}"
            rows.append(
                f"| {workload.title} | {verdict.goal.text} | {measured} | {_MARKS[verdict.reached]} |"
            )
            reached, total = reached + (verdict.reached is True), total + 1
    return [f"{reached} of {total} are reached.", "", *rows]


def _table(workload: Measured) -> list[str]:
    if workload.failure is not None:
        return [f"Not measured: {_short(workload.failure)}"]
    ours = next((one for one in workload.series if one.kind == "ours"), None)
    rows = [
        "| | median | best | ratio | processor | ratio | peak memory | ratio | runs |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(_row(one, ours) for one in workload.series if one.failure is None),
    ]
    failures = [one for one in workload.series if one.failure is not None]
    return rows + [
        line for one in failures for line in ("", f"{one.name} does not do it: {_short(one.failure or '')}")
    ]


def _row(one: Series, ours: Series | None) -> str:
    cells = [
        one.name if one.kind != "floor" else f"floor: `{one.name}`",
        seconds(one.wall),
        seconds(one.best),
        _ratio(one.wall, ours.wall if ours else None),
        seconds(one.cpu),
        _ratio(one.cpu, ours.cpu if ours else None),
        mebibytes(one.peak),
        _ratio(one.peak, ours.peak if ours else None),
        str(len(one.samples)),
    ]
    return f"| {' | '.join(cells)} |"


def seconds(value: float | None) -> str:
    """Return `value` with three digits that count, at least to the millisecond."""
    if value is None:
        return ""
    return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"


def mebibytes(value: int | None) -> str:
    """Return a number of bytes in MiB."""
    return "" if value is None else f"{value / 2**20:.0f} MiB"


def _ratio(other: float | None, ours: float | None) -> str:
    value = ratio(other, ours)
    return "" if value is None else f"{value:.2f}"


def _short(failure: str) -> str:
    """Return the last line that is not empty, as it may stand in a page."""
    lines = [line.strip() for line in failure.splitlines() if line.strip()]
    return f"`{lines[-1][:200].replace('`', chr(39))}`" if lines else "`no output`"
