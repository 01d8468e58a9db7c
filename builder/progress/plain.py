"""Numbered lines, as BuildKit's plain progress writes them: for pipes, files and the logs of CI systems.

Never an escape code. Every line bears the number of the step or transfer that it belongs to, so that those of
parallel stages can be told apart, with grep too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.events import (
    BuildFailed,
    BuildFinished,
    Notice,
    OutputWritten,
    StageStarted,
    StepFinished,
    StepOutput,
    StepRunning,
    StepStarted,
    TransferFinished,
    TransferProgress,
    TransferStarted,
)
from builder.progress import wording
from builder.progress.base import StreamDisplay
from builder.progress.printable import LineSplitter, one_line
from builder.progress.units import duration, part_of, size

if TYPE_CHECKING:
    from builder.events import Event
    from builder.progress.sink import Sink

TRANSFER_INTERVAL = 5.0
"""Seconds between two lines about the same transfer."""


@dataclass(slots=True)
class _Step:
    number: int
    event: StepStarted
    began: float
    running: bool = False
    splitters: dict[str, LineSplitter] = field(default_factory=dict)


@dataclass(slots=True)
class _Transfer:
    number: int
    event: TransferStarted
    began: float
    told: float


class PlainDisplay(StreamDisplay):
    """Writes a line as soon as it is known. Numbers are given in order of appearance."""

    def __init__(self, sink: Sink, *, explain: bool, clock: Callable[[], float]) -> None:
        super().__init__(sink)
        self._explain = explain
        self._clock = clock
        self._last = 0
        self._steps: dict[int, _Step] = {}
        self._transfers: dict[str, _Transfer] = {}

    def emit(self, event: Event) -> None:
        """Write the lines that `event` gives."""
        match event:
            case StageStarted():
                name = f"[{one_line(event.stage)}] " if event.stage else ""
                self._line(self._next(), f"{name}FROM {one_line(event.base)}")
            case StepStarted():
                self._steps[event.step] = _Step(self._next(), event, self._clock())
                self._line(self._last, wording.step_title(event))
            case StepRunning() | StepOutput() | StepFinished():
                step = self._steps.get(event.step)
                if step is not None:
                    self._step(step, event)
            case TransferStarted() | TransferProgress() | TransferFinished():
                self._transfer(event)
            case Notice():
                self.sink.write(wording.notice(event) + "\n")
            case OutputWritten():
                self._line(self._next(), wording.output_written(event))
            case BuildFinished():
                self.sink.write(wording.build_finished(event) + "\n")
            case BuildFailed():
                self.sink.write(event.report.rstrip("\n") + "\n")
            case _:
                pass

    def close(self) -> None:
        """Write what unfinished steps left without a line end."""
        for step in self._steps.values():
            self._output(step, [line for splitter in step.splitters.values() for line in splitter.finish()])
        self._steps.clear()

    def _step(self, step: _Step, event: StepRunning | StepOutput | StepFinished) -> None:
        if isinstance(event, StepOutput):
            splitter = step.splitters.setdefault(event.stream, LineSplitter())
            self._output(step, splitter.feed(event.data))
            return
        if isinstance(event, StepRunning):
            step.running = True
            if self._explain and event.reason:
                self._line(step.number, f"because {one_line(event.reason)}")
            return
        self._output(step, [line for splitter in step.splitters.values() for line in splitter.finish()])
        del self._steps[event.step]
        if self._explain and event.reason and not step.running:
            self._line(step.number, f"because {one_line(event.reason)}")
        if event.outcome == "cached":
            self._line(step.number, "CACHED")
        elif event.outcome == "failed":
            self._line(
                step.number,
                f"ERROR: {wording.exit_words(event.status)}, {duration(event.seconds)}",
            )
        elif event.outcome == "same":
            self._line(step.number, f"DONE {duration(event.seconds)}, same result as before")
        elif event.outcome != "empty":
            self._line(step.number, f"DONE {duration(event.seconds)}")

    def _output(self, step: _Step, lines: list[str]) -> None:
        if lines:
            prefix = f"#{step.number} {self._clock() - step.began:.1f} "
            self.sink.write("".join(f"{prefix}{line}".rstrip() + "\n" for line in lines))

    def _transfer(self, event: TransferStarted | TransferProgress | TransferFinished) -> None:
        now = self._clock()
        if isinstance(event, TransferStarted):
            known = self._transfers.get(event.transfer)
            number, began = (known.number, known.began) if known else (self._next(), now)
            self._transfers[event.transfer] = _Transfer(number, event, began, now)
            total = f" ({size(event.total)})" if event.total is not None else ""
            self._line(number, f"{one_line(event.label)}{total}")
            return
        transfer = self._transfers.get(event.transfer)
        if transfer is None:
            return
        if isinstance(event, TransferFinished):
            del self._transfers[event.transfer]
            self._line(transfer.number, f"DONE {duration(now - transfer.began)}, {size(event.done)}")
        elif now - transfer.told >= TRANSFER_INTERVAL:
            transfer.told = now
            whole = transfer.event.total
            done = size(event.done) if whole is None else part_of(event.done, whole)
            self._line(transfer.number, f"{done} {duration(now - transfer.began)}")

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _line(self, number: int, text: str) -> None:
        self.sink.write(f"#{number} {text}\n")
