"""bench/RESULTS.md: what was measured, as ratios, with the machine and the versions that they hold for."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass

from measure import Times


@dataclass(frozen=True, slots=True)
class Result:
    """One workload's times by peer.

    `floor`: those of a Python that does nothing; `lstat`: of an lstat pass over the context, in seconds.
    """

    title: str
    goal: str
    runs_steps: bool
    times: dict[str, Times]
    floor: Times
    lstat: float


def machine() -> str:
    """Return processor, cores, memory, kernel and the file system of the temporary directory, in one line."""
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {memory:.0f} GiB, Linux {platform.release()}"


def markdown(results: Iterable[Result], versions: dict[str, str], rounds: int) -> str:
    """Return the report. Times are medians over `rounds` rounds; a ratio is a peer's time by pybuild's."""
    lines = [
        "# Measured",
        "",
        "Written by `make bench`; nothing here is typed by hand. Whole commands from start to exit, timed by",
        f"hyperfine, one run of each in turn for {rounds} rounds. A ratio: the other's median by pybuild's.",
        "",
        f"Machine: {machine()}.",
        "",
    ]
    lines += [f"- {name}: {version}" for name, version in versions.items()]
    for result in results:
        lines += ["", f"## {result.title}", ""]
        lines += _table(result)
        ours = result.times.get("pybuild")
        if ours is not None and not result.runs_steps:
            lines += ["", _against_the_floor(ours, result)]
        if result.goal:
            lines += ["", f"Goal: {result.goal}."]
    return "\n".join(lines) + "\n"


def _table(result: Result) -> list[str]:
    ours = result.times.get("pybuild")
    rows = ["| builder | median | best | ratio |", "|---|---:|---:|---:|"]
    for name, times in result.times.items():
        ratio = f"{times.median / ours.median:.1f}" if ours is not None else ""
        rows.append(f"| {name} | {times.median:.3f} s | {times.best:.3f} s | {ratio} |")
    return rows


def _against_the_floor(ours: Times, result: Result) -> str:
    # The best of each: at a few hundredths of a second, other programs of the machine are most of a median.
    least = result.floor.best + result.lstat
    return (
        f"Floor: `python3 -I -c pass` ({result.floor.best:.3f} s) and an lstat of each file of the context"
        f" ({result.lstat:.4f} s). pybuild takes {ours.best / least:.1f} times that (best of each)."
    )
