"""Independent stages run at the same time, and end together. Commands meet in a cache mount, so that nothing
hangs on how long something takes.
"""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import StepFailed
from builder.events import StepFinished, StepOutput, StepStarted
from builder.parallel import Cancellation, Stages
from tests.build_fixtures.project import Project
from tests.builder.test_concurrency import _running, start, until

MOUNT = "RUN --mount=type=cache,id=meet,target=/c "


def waits_for(name: str) -> str:
    """A loop that ends when somebody has made `name`, or fails in the end."""
    return f"n=0; until test -e /c/{name}; do n=$((n+1)); test $n -lt 600 || exit 9; sleep 0.05; done"


def meeting(count: int) -> str:
    """A recipe of `count` stages none of which ends before each has begun."""
    names = [f"s{number}" for number in range(count)]
    met = "; ".join(map(waits_for, names))
    stages = [
        f"FROM ../base/base.rec AS {name}\n{MOUNT}touch /c/{name}; {met}; echo {name} > /{name}\n"
        for name in names
    ]
    copies = [f"COPY --from={name} /{name} /\n" for name in names]
    return "".join([*stages, "FROM base\n", *copies])


def test_four_stages_run_at_the_same_time(project: Project) -> None:
    outcome = project.build(meeting(4), "--jobs=4")
    assert {"s0", "s1", "s2", "s3"} <= project.files(outcome).keys()
    assert outcome.built.ran == 9  # the base's COPY among them
    assert project.unsound() == []


def test_one_job_is_one_stage_at_a_time(project: Project) -> None:
    alone = f"{MOUNT}mkdir /c/alone || exit 1; sleep 0.1; rm -r /c/alone\n"
    text = "".join(f"FROM ../base/base.rec AS s{n}\nENV N={n}\n{alone}" for n in range(3))
    project.build(
        text + "FROM base\n" + "".join(f"COPY --from=s{n} /bin/sh /s{n}\n" for n in range(3)), "-j1"
    )
    with pytest.raises(StepFailed):
        project.build(meeting(2).replace("-lt 600", "-lt 20"), "-j", "1", "--no-cache")


def test_the_first_failure_ends_the_others_and_is_the_one_that_is_told(project: Project) -> None:
    text = (
        f"FROM ../base/base.rec AS long\n{MOUNT}echo > /c/up; echo up; sleep 88\n"
        f"FROM ../base/base.rec AS bad\n{MOUNT}{waits_for('up')}; exit 3\n"
        "FROM base\nCOPY --from=long /etc/passwd /a\nCOPY --from=bad /etc/passwd /b\n"
    )
    with pytest.raises(StepFailed) as caught:
        project.build(text, "--jobs=2")
    assert caught.value.status == 3
    assert caught.value.span is not None
    assert caught.value.span.line == 4
    assert not _running("sleep\x0088")
    assert threading.active_count() == 1 or all("stage" not in t.name for t in threading.enumerate())
    assert project.unsound() == []


def test_a_large_copy_ends_too_when_another_stage_fails(project: Project) -> None:
    for number in range(3000):
        project.write(f"many/{number}", str(number))
    text = (
        "FROM ../base/base.rec AS copies\nCOPY many /many\nRUN sleep 89\n"
        "FROM ../base/base.rec AS bad\nRUN exit 4\n"
        "FROM base\nCOPY --from=copies /etc/passwd /a\nCOPY --from=bad /etc/passwd /b\n"
    )
    with pytest.raises(StepFailed) as caught:
        project.build(text, "--jobs=2")
    assert caught.value.status == 4
    assert not _running("sleep\x0089")
    assert project.unsound() == []


def test_an_interrupt_ends_all_stages_and_a_second_build_goes_on(project: Project) -> None:
    text = (
        f"FROM ../base/base.rec AS a\n{MOUNT}touch /c/a; echo begun; sleep 99\n"
        f"FROM ../base/base.rec AS b\n{MOUNT}{waits_for('a')}; echo begun; sleep 99\n"
        "FROM base\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n"
    )
    first = start(project, project.recipe(text), "-j2")
    assert first.stdout is not None
    begun = 0
    for line in first.stdout:
        begun += line.rstrip().endswith("begun") and "echo" not in line
        if begun == 2:
            break
    second = start(project, project.recipe(f"FROM base\n{MOUNT}echo here; {waits_for('free')}\n", "b.rec"))
    assert second.stdout is not None
    for line in second.stdout:
        if line.rstrip().endswith("here") and "echo" not in line:
            break
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGINT
    until(lambda: not _running("sleep\x0099"))
    project.build(f"FROM base\n{MOUNT}touch /c/free\n", name="c.rec")
    output = second.communicate(timeout=60)[0]
    assert second.returncode == 0, output
    assert project.unsound() == []


def test_what_is_cached_takes_no_thread(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"FROM ../base/base.rec AS s{n}\nRUN echo {n} > /n\n" for n in range(3))
    text += "FROM base\n" + "".join(f"COPY --from=s{n} /n /n{n}\n" for n in range(3))
    first = project.build(text, "--jobs=3")

    def refuse(*_: object) -> None:
        raise AssertionError("a thread")

    monkeypatch.setattr(Stages, "_spawn", refuse)
    again = project.build(text, "--jobs=3")
    assert again.built.image_id == first.built.image_id
    assert set(again.outcomes) == {"cached"}


def test_each_line_of_output_belongs_to_its_step(project: Project) -> None:
    text = "".join(
        f"FROM ../base/base.rec AS s{n}\nENV N={n}\nRUN seq 200 | sed s/^/{n}-/\n" for n in range(3)
    )
    text += "FROM base\n" + "".join(f"COPY --from=s{n} /etc/passwd /n{n}\n" for n in range(3))
    events = project.build(text, "--jobs=3").events
    stages = {e.step: e.stage for e in events if isinstance(e, StepStarted)}
    found: dict[str, bytes] = {}
    for event in events:
        if isinstance(event, StepOutput):
            found[stages[event.step]] = found.get(stages[event.step], b"") + event.data
    for number in range(3):
        lines = found[f"s{number}"].decode().split()
        assert lines == [f"{number}-{line}" for line in range(1, 201)]
    ended = [e.step for e in events if isinstance(e, StepFinished)]
    assert sorted(ended) == sorted(set(ended)), "each step ends once"


def test_the_same_step_in_two_stages_runs_once(project: Project) -> None:
    text = "".join(f"FROM ../base/base.rec AS {n}\nRUN sleep 0.2; echo > /x\n" for n in "ab")
    text += "FROM base\nCOPY --from=a /x /a\nCOPY --from=b /x /b\n"
    outcome = project.build(text, "--jobs=2")
    assert sorted(outcome.outcomes[:2]) == ["cached", "ran"]


# The order


class Fake:
    """A stage that knows what it needs, and notes when it ran."""

    def __init__(
        self, index: int, needs: tuple[int, ...], hits: bool, log: list[Any], gauge: list[int]
    ) -> None:
        self.index, self.needs, self._hits, self._log, self._gauge = index, needs, hits, log, gauge

    def hits(self) -> bool:
        return self._hits

    def run(self) -> Any:
        self._gauge[0] += 1
        self._gauge[1] = max(self._gauge)
        self._log.append(self.index)
        self._gauge[0] -= 1
        return SimpleNamespace(index=self.index)


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[tuple[int, ...], bool]]:
    """Stages in order: what each needs of those before it, and whether it hits."""
    count = draw(st.integers(1, 8))
    found = []
    for index in range(count):
        needs = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set()
        found.append((tuple(sorted(needs)), draw(st.booleans())))
    return found


@given(graphs(), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_each_stage_runs_once_after_those_that_it_needs(
    graph: list[tuple[tuple[int, ...], bool]], jobs: int
) -> None:
    log: list[int] = []
    gauge = [0, 0]
    stages = [Fake(index, needs, hits, log, gauge) for index, (needs, hits) in enumerate(graph)]
    done: list[int] = []

    def begin(stage: Any) -> Any:
        assert set(stage.needs) <= set(done)
        return stage

    Stages(jobs, Cancellation()).run(stages, begin, lambda stage, result: done.append(stage.index))  # type: ignore[arg-type]
    assert sorted(done) == sorted(log) == list(range(len(graph)))


def test_what_is_registered_late_is_ended_at_once() -> None:
    cancellation = Cancellation()
    ended: list[str] = []
    with cancellation.ending(lambda: ended.append("a")):
        cancellation.cancel()
    with cancellation.ending(lambda: ended.append("b")):
        pass
    assert ended == ["a", "b"]
