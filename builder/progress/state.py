"""What is going on in a build, worked out from its events: the model behind the terminal display."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from builder.events import (
    BuildFinished,
    BuildStarted,
    Event,
    StageFinished,
    StageStarted,
    StepFinished,
    StepOutput,
    StepRunning,
    StepStarted,
    TransferFinished,
    TransferProgress,
    TransferStarted,
)
from builder.progress.printable import LineSplitter
from builder.progress.transcript import Transcript

TAIL = 5
"""How many of a running step's last lines are shown."""

_RATE_WINDOW = 4.0


@dataclass(slots=True)
class LiveStep:
    """A step between its start and its end."""

    event: StepStarted
    began: float
    running: bool = False
    reason: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))
    transcript: Transcript = field(default_factory=Transcript)
    _splitters: dict[str, LineSplitter] = field(default_factory=dict)

    def feed(self, stream: str, data: bytes) -> list[str]:
        """Take output; return the lines that it completes."""
        splitter = self._splitters.get(stream)
        if splitter is None:
            splitter = self._splitters[stream] = LineSplitter()
        return self._keep(splitter.feed(data))

    def finish(self) -> list[str]:
        """Return the last lines, which have no end."""
        return [line for splitter in self._splitters.values() for line in self._keep(splitter.finish())]

    def last_lines(self) -> list[str]:
        """The end of the output as it looks now, an unfinished line (a prompt, a progress bar) last."""
        partial = [text for splitter in self._splitters.values() if (text := splitter.partial)]
        return [*self.tail, *partial][-TAIL:]

    def _keep(self, lines: list[str]) -> list[str]:
        for line in lines:
            self.transcript.add(line)
        self.tail.extend(line for line in lines[-TAIL:] if line.strip())
        return lines


@dataclass(slots=True)
class LiveTransfer:
    """A transfer under way: bytes so far, and how fast they came lately."""

    event: TransferStarted
    began: float
    done: int = 0
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def advance(self, done: int, now: float) -> None:
        """`done` bytes are through at `now`."""
        if done < self.done:  # begun again after a broken connection
            self._samples.clear()
        self.done = done
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[0][0] > _RATE_WINDOW:
            self._samples.popleft()

    def rate(self, now: float) -> float:
        """Bytes a second over the last few seconds, 0 as long as there is nothing to tell it from."""
        at, done = self._samples[0] if len(self._samples) > 1 else (self.began, 0)
        return (self.done - done) / (now - at) if now - at > 0.05 else 0.0

    def remaining(self, now: float) -> float | None:
        """Seconds that the rest will take at this rate, None where that cannot be known."""
        rate = self.rate(now)
        if self.event.total is None or rate <= 0:
            return None
        return max(self.event.total - self.done, 0) / rate


@dataclass(slots=True)
class LiveStage:
    """How far a stage is."""

    event: StageStarted
    done: int = 0
    finished: bool = False


@dataclass(slots=True)
class BuildState:
    """Everything that is going on now."""

    build: BuildStarted | None = None
    began: float | None = None
    ended: bool = False
    finished_steps: int = 0
    stages: dict[str, LiveStage] = field(default_factory=dict)
    steps: dict[int, LiveStep] = field(default_factory=dict)
    transfers: dict[str, LiveTransfer] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        """Whether something is under way that can take time."""
        return bool(self.transfers) or any(step.running for step in self.steps.values())

    def apply(self, event: Event, now: float) -> None:
        """Take `event`, which happens at `now` (seconds). Finished steps and transfers are forgotten."""
        if self.began is None:
            self.began = now
        match event:
            case BuildStarted():
                # Recipes that this one is based on came before; their steps are not among those announced.
                self.build, self.finished_steps = event, 0
                self.stages.clear()
            case StageStarted():
                self.stages[event.stage] = LiveStage(event)
            case StageFinished() if event.stage in self.stages:
                self.stages[event.stage].finished = True
            case StepStarted():
                self.steps[event.step] = LiveStep(event, now)
            case StepRunning() if event.step in self.steps:
                self.steps[event.step].running = True
                self.steps[event.step].reason = event.reason
            case StepOutput() if event.step in self.steps:
                self.steps[event.step].feed(event.stream, event.data)
            case StepFinished():
                self._finish_step(event)
            case TransferStarted():
                known = self.transfers.get(event.transfer)
                self.transfers[event.transfer] = LiveTransfer(event, known.began if known else now)
            case TransferProgress() if event.transfer in self.transfers:
                self.transfers[event.transfer].advance(event.done, now)
            case TransferFinished():
                self.transfers.pop(event.transfer, None)
            case BuildFinished():
                self.ended = True
            case _:
                pass

    def _finish_step(self, event: StepFinished) -> None:
        self.finished_steps += 1
        step = self.steps.pop(event.step, None)
        if step is not None:
            step.transcript.close()
            stage = self.stages.get(step.event.stage)
            if stage is not None:
                stage.done += 1
