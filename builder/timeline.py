"""When each step of a build began, how long it took, and whether it ran, hit or waited: kept with the image,
for `pybuild view`.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from builder.events import Notice, StepFinished, StepRunning, StepStarted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.events import Emit, Event
    from cache.store import Store

_KIND = "timeline"
_WAITING = re.compile(r"step (\d+):")
_LONGEST = 400


@dataclass(slots=True)
class Step:
    """A step. `at`, `waited` and `seconds` are in seconds: from the build's beginning to the step's, until it
    could run, all in all. `outcome` is that of StepFinished."""

    stage: str
    number: int
    of: int
    text: str
    at: float
    outcome: str = ""
    seconds: float = 0.0
    waited: float = 0.0
    key: str = ""
    reason: str = ""


@dataclass(slots=True)
class Timeline:
    """A build: when it began (seconds since 1970), how long it took, and its steps as they began."""

    started: float
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)


class TimelineRecorder:
    """Takes down what the events of a build say, and passes them on."""

    __slots__ = ("_began", "_emit", "_steps", "_waiting", "timeline")

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._began = time.monotonic()
        self._steps: dict[int, Step] = {}
        self._waiting: dict[int, float] = {}
        self.timeline = Timeline(time.time())

    def __call__(self, event: Event) -> None:
        """Take an event."""
        kind = type(event)
        if kind is StepStarted:
            self._started(event)  # type: ignore[arg-type]
        elif kind is StepRunning:
            self._running(event.step, event.reason)  # type: ignore[union-attr]
        elif kind is StepFinished:
            self._finished(event)  # type: ignore[arg-type]
        elif kind is Notice and event.code == "step/waiting":  # type: ignore[union-attr]
            self._waits(event.message)  # type: ignore[union-attr]
        self._emit(event)

    def keep(self, store: Store, image_id: str) -> None:
        """Keep the timeline with the image. One in which steps ran is not replaced by one in which none did:
        it would say no more than that they hit."""
        timeline = self.timeline
        timeline.seconds = self._now()
        if all(step.outcome == "cached" for step in timeline.steps) and store.memo.get(_KIND, image_id):
            return
        import json

        steps = [
            (s.stage, s.number, s.of, s.text, s.at, s.outcome, s.seconds, s.waited, s.key, s.reason)
            for s in timeline.steps
        ]
        value = {"started": timeline.started, "seconds": timeline.seconds, "steps": steps}
        store.memo.put(_KIND, image_id, json.dumps(value).encode())

    def _now(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def _started(self, event: StepStarted) -> None:
        text = event.text if len(event.text) <= _LONGEST else event.text[: _LONGEST - 1] + "…"
        step = Step(event.stage, event.number, event.of, text, self._now())
        self._steps[event.step] = step
        self.timeline.steps.append(step)

    def _running(self, number: int, reason: str) -> None:
        step = self._steps.get(number)
        if step is not None:
            step.reason = reason[:_LONGEST]
            self._no_more_waiting(number, step)

    def _waits(self, message: str) -> None:
        match = _WAITING.match(message)
        if match is not None:
            self._waiting.setdefault(int(match[1]), self._now())

    def _no_more_waiting(self, number: int, step: Step) -> None:
        since = self._waiting.pop(number, None)
        if since is not None:
            step.waited = round(step.waited + self._now() - since, 3)

    def _finished(self, event: StepFinished) -> None:
        step = self._steps.get(event.step)
        if step is None:
            return
        self._no_more_waiting(event.step, step)
        step.outcome = event.outcome
        step.seconds = round(event.seconds, 3)
        step.key = event.key
        step.reason = step.reason or event.reason[:_LONGEST]


def recall(store: Store, image_id: str) -> Timeline | None:
    """Return the timeline of the build that made the image, None if it is not known."""
    import json

    known = store.memo.get(_KIND, image_id)
    if known is None:
        return None
    try:
        value = json.loads(known)
        steps = [Step(*row[:5], *row[5:]) for row in value["steps"]]
        return Timeline(value["started"], value["seconds"], steps)
    except (ValueError, KeyError, TypeError):  # another pybuild's
        return None
