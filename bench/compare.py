"""Compare two results of the suite, as before and after a change:

    python -m bench.compare BEFORE.json AFTER.json

For each workload: what pybuild took, and what it took by the machine's own yardstick, which is what the peers
and floors took at the same time. A machine that was busier in one of the two is seen in these, and not held
against the change.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass

from bench.report import mebibytes, seconds
from bench.results import BadResults, Measured, Results, from_json
from bench.samples import Series, ratio


@dataclass(frozen=True, slots=True)
class Change:
    """Of one series in one workload: after by before. `yardstick`: the same of all peers and floors, the
    geometric mean; None where there are none in both.
    """

    title: str
    before: Series
    after: Series
    yardstick: float | None

    @property
    def wall(self) -> float | None:
        return ratio(self.after.wall, self.before.wall)

    @property
    def corrected(self) -> float | None:
        """The change of the time, less that of the yardstick."""
        return ratio(self.wall, self.yardstick)


def changes(before: Results, after: Results) -> list[Change]:
    """Return the changes of our own series in the workloads that both have."""
    earlier = {one.name: one for one in before.workloads}
    found = []
    for workload in after.workloads:
        past = earlier.get(workload.name)
        if past is None:
            continue
        for series in workload.series:
            same = past.named(series.name)
            if series.kind == "ours" and same is not None:
                found.append(Change(workload.title, same, series, _yardstick(past, workload)))
    return found


def _yardstick(before: Measured, after: Measured) -> float | None:
    logarithms = []
    for series in after.series:
        same = before.named(series.name)
        value = ratio(series.wall, same.wall) if same is not None and series.kind != "ours" else None
        if value:
            logarithms.append(math.log(value))
    return math.exp(sum(logarithms) / len(logarithms)) if logarithms else None


def table(found: list[Change]) -> str:
    """Return the changes as a table in Markdown, ratios being after by before."""
    rows = [
        "| workload | before | after | ratio | of peers and floors | ratio, corrected | processor | memory |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in found:
        name = one.title if one.after.name == "pybuild" else f"{one.title}: {one.after.name}"
        memory = f"{mebibytes(one.before.peak)} → {mebibytes(one.after.peak)}" if one.after.peak else ""
        cells = [
            name,
            seconds(one.before.wall),
            seconds(one.after.wall),
            _two(one.wall),
            _two(one.yardstick),
            _two(one.corrected),
            _two(ratio(one.after.cpu, one.before.cpu)),
            memory,
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def read(path: str) -> Results:
    """Return the results in the file `path`. Raises BadResults, OSError."""
    with open(path, encoding="utf-8") as file:
        return from_json(file.read())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench/compare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", metavar="BEFORE.json")
    parser.add_argument("after", metavar="AFTER.json")
    options = parser.parse_args()
    try:
        before, after = read(options.before), read(options.after)
    except (OSError, BadResults) as error:
        sys.exit(f"bench/compare.py: {error}")
    if before.scale != after.scale:
        sys.exit(
            f"bench/compare.py: the workloads differ in size: scale {before.scale:g} and {after.scale:g}"
        )
    if before.machine != after.machine:
        print(f"Not the same machine.\n\nBefore: {before.machine}\n\nAfter: {after.machine}\n")
    print(table(changes(before, after)), end="")


if __name__ == "__main__":
    main()
