"""Medians, ratios, goals, and what is made of them: page, JSON, comparison."""

from __future__ import annotations

import dataclasses
import os

import pytest

from bench.compare import changes, table
from bench.goals import Goal, judge
from bench.plots import bars, of_results
from bench.report import markdown, mebibytes, seconds
from bench.results import BadResults, Measured, Results, from_json, to_json
from bench.rounds import Effort
from bench.run import merged
from bench.samples import Kind, Sample, Series, best_of, ratio


def series(name: str, *walls: float, kind: Kind = "peer", peak: int | None = None) -> Series:
    return Series(name, kind, tuple(Sample(wall, wall / 2) for wall in walls), peak)


OURS = series("pybuild", 1.0, 3.0, 2.0, kind="ours", peak=30 << 20)
FAST = series("BuildKit", 4.0, 4.0, 5.0, peak=200 << 20)
SLOW = series("buildah", 20.0, peak=20 << 20)
FLOOR = series("cp -a", 0.5, kind="floor")
BROKEN = Series("skopeo", "peer", failure="`skopeo` ended with 1:\nno `such` thing\n")


def results(*found: Series, scale: float = 1) -> Results:
    workload = Measured("copy", "COPY of files", found)
    return Results("a machine", {"pybuild": "pybuild 1"}, 3, scale, (workload,))


def test_a_series_stands_for_its_median_and_knows_its_best_run() -> None:
    assert (OURS.wall, OURS.best, OURS.cpu, OURS.spread) == (2.0, 1.0, 1.0, 3.0)
    assert (BROKEN.wall, BROKEN.best, BROKEN.cpu, BROKEN.spread) == (None, None, None, None)


def test_a_ratio_needs_both_figures() -> None:
    assert ratio(1.0, 4.0) == 0.25
    assert ratio(None, 4.0) is None
    assert ratio(1.0, None) is None
    assert ratio(1.0, 0) is None


def test_the_best_is_the_one_with_the_least_of_what_is_asked_for() -> None:
    assert best_of([SLOW, BROKEN, FAST], "wall") is FAST
    assert best_of([SLOW, BROKEN, FAST], "peak") is SLOW
    assert best_of([BROKEN], "wall") is None


@pytest.mark.parametrize(
    ("goal", "measured", "reached", "other"),
    [
        (Goal(0.5), 0.5, True, "BuildKit"),
        (Goal(0.4), 0.5, False, "BuildKit"),
        (Goal(0.1, ("buildah",)), 0.1, True, "buildah"),
        (Goal(1.0, ("cp -a", "BuildKit")), 2 / 4.5, True, "cp -a + BuildKit"),
        (Goal(1.0, measure="peak"), 1.5, False, "buildah"),
        (Goal(1.0, ("skopeo",)), None, None, "skopeo"),
        (Goal(1.0, ("kaniko",)), None, None, ""),
        (Goal(8.0, ("cp -a",), subject="buildah"), 40.0, False, "cp -a"),
    ],
)
def test_a_goal_is_held_against_the_figures(
    goal: Goal, measured: float | None, reached: bool | None, other: str
) -> None:
    verdict = judge(goal, [OURS, FAST, SLOW, FLOOR, BROKEN])
    assert verdict.ratio == pytest.approx(measured) if measured is not None else verdict.ratio is None
    assert (verdict.reached, verdict.other) == (reached, other)


def test_the_page_has_ratios_verdicts_and_failures() -> None:
    page = markdown(results(OURS, FAST, SLOW, FLOOR, BROKEN), {"copy": (Goal(0.3), Goal(0.2, ("buildah",)))})
    assert "1 of 3 are reached." in page
    assert "| COPY of files | at most 0.3 × the best peer | 0.50 × BuildKit | **no** |" in page
    assert "| COPY of files | at most 0.2 × buildah | 0.10 × buildah | yes |" in page
    assert "| COPY of files | peak memory: at most 1 × the best peer | 1.50 × buildah | **no** |" in page
    assert (
        "| BuildKit | 4.000 s | 4.000 s | 2.00 | 2.000 s | 2.00 | 200 MiB | 6.67 | 3 |" in page.splitlines()
    )
    assert "| floor: `cp -a` | 0.500 s | 0.500 s | 0.25 | 0.250 s | 0.25 |  |  | 1 |" in page.splitlines()
    assert "skopeo does not do it: `no 'such' thing`" in page.splitlines()
    assert "this is a try" not in page


def test_a_page_of_smaller_workloads_says_so_and_shows_its_pictures() -> None:
    page = markdown(results(OURS, scale=0.1), {}, ["pictures/times.png"])
    assert "0.1 of their size" in page
    assert "![times](pictures/times.png)" in page


def test_a_workload_that_could_not_be_measured_says_why() -> None:
    failed = Measured("java", "java.rec", failure="mmdebstrap ended with 1:\nno network\n")
    page = markdown(dataclasses.replace(results(), workloads=(failed,)), {"java": (Goal(0.5),)})
    assert "| java.rec | at most 0.5 × the best peer |  | not measured |" in page
    assert "Not measured: `no network`" in page


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0.01234, "0.012 s"), (12.345, "12.3 s")])
def test_seconds_have_three_digits(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_bytes_are_shown_in_mebibytes() -> None:
    assert (mebibytes(None), mebibytes(3 << 20)) == ("", "3 MiB")


def test_what_json_keeps_comes_back() -> None:
    before = results(OURS, FAST, BROKEN, FLOOR)
    assert from_json(to_json(before)) == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "machine": "x"}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(BadResults):
        from_json(text)


def test_a_change_is_corrected_by_what_the_peers_took_at_the_same_time() -> None:
    before = results(series("pybuild", 1.0, kind="ours"), series("BuildKit", 4.0), FLOOR)
    after = results(
        series("pybuild", 1.0, kind="ours"), series("BuildKit", 8.0), series("cp -a", 1.0, kind="floor")
    )
    (change,) = changes(before, after)
    assert change.wall == pytest.approx(1.0)
    assert change.yardstick == pytest.approx(2.0)
    assert change.corrected == pytest.approx(0.5)
    assert "| COPY of files | 1.000 s | 1.000 s | 1.00 | 2.00 | 0.50 | 1.00 |  |" in table([change])


def test_without_a_yardstick_a_change_is_not_corrected() -> None:
    (change,) = changes(results(OURS), results(OURS, FAST))
    assert (change.wall, change.yardstick, change.corrected) == (1.0, None, None)


def test_bars_are_ratios_to_pybuild_where_there_is_somebody_to_compare_with() -> None:
    assert bars(results(OURS, FAST, FLOOR, BROKEN), "wall") == [
        ("COPY of files", [("pybuild", 1.0), ("BuildKit", 2.0)])
    ]
    assert bars(results(OURS, FLOOR), "wall") == []
    assert bars(results(FAST), "wall") == []


def test_effort_is_bounded_by_rounds_and_by_time() -> None:
    effort = Effort(rounds=3, budget=10)
    assert effort.goes_on([])
    assert effort.goes_on([Sample(1, 1)] * 2)
    assert not effort.goes_on([Sample(1, 1)] * 3)
    assert not effort.goes_on([Sample(6, 1)])
    assert effort.goes_on([Sample(5, 1)])


def test_a_part_that_was_measured_anew_takes_the_place_of_the_old_one() -> None:
    def of(*names: str, wall: float, version: str = "1") -> Results:
        workloads = tuple(Measured(name, name, (series("pybuild", wall, kind="ours"),)) for name in names)
        return Results("a machine", {"pybuild": version}, 3, 1, workloads)

    found = merged(of("run-50", "no-op", "push", wall=1.0), of("push", wall=2.0))
    assert [(one.name, one.series[0].wall) for one in found.workloads] == [
        ("no-op", 1.0),
        ("run-50", 1.0),
        ("push", 2.0),
    ]
    with pytest.raises(SystemExit, match="other versions"):
        merged(of("no-op", wall=1.0), of("push", wall=2.0, version="2"))
    with pytest.raises(SystemExit, match="another machine"):
        merged(of("no-op", wall=1.0), dataclasses.replace(of("push", wall=2.0), scale=0.5))


def test_pictures_are_drawn(tmp_path: os.PathLike[str]) -> None:
    assert of_results(results(OURS, FAST, SLOW), os.fspath(tmp_path)) == [
        "pictures/times.png",
        "pictures/processor.png",
        "pictures/memory.png",
    ]
    for name in ("times", "processor", "memory"):
        with open(os.path.join(tmp_path, "pictures", f"{name}.png"), "rb") as file:
            assert file.read(8) == b"\x89PNG\r\n\x1a\n"
