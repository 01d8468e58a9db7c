"""The display for a terminal: what has ended folds to a line, what is under way is redrawn below.

rich, which draws, takes longer to load than a build that finds everything in the cache takes altogether. So
it is loaded only when something has been under way for a moment; until then the folded lines are written by
hand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.events import (
    BuildFailed,
    BuildFinished,
    Notice,
    OutputWritten,
    StageStarted,
    StepFinished,
    StepRunning,
    StepStarted,
)
from builder.progress import wording
from builder.progress.base import StreamDisplay
from builder.progress.lines import Glyphs, Line, ansi, fit, frame, remark, stage_line, step_line, stopped_line
from builder.progress.state import BuildState

if TYPE_CHECKING:
    from builder.events import Event
    from builder.progress.live import Screen
    from builder.progress.sink import Sink

PATIENCE = 0.2
"""Seconds after which something under way is shown."""

_FRAME = 0.1


class TtyDisplay(StreamDisplay):
    """Writes folded lines as they come; a thread of its own redraws what is under way."""

    def __init__(self, sink: Sink, *, explain: bool, colour: bool, clock: Callable[[], float]) -> None:
        super().__init__(sink)
        self._explain = explain
        self._colour = colour
        self._clock = clock
        self._glyphs = Glyphs(sink.unicode)
        self._state = BuildState()
        self._screen: Screen | None = None
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._painter: threading.Thread | None = None

    def emit(self, event: Event) -> None:
        """Take `event` into account, and write the lines that it leaves behind."""
        with self._lock:
            now = self._clock()
            match event:
                case StepFinished():
                    self._step_finished(event, now)
                case StepStarted() | StepRunning():
                    self._state.apply(event, now)
                case BuildFailed():
                    self._leave_steps(now)
                    self._write(self._lines(event))
                case _:
                    self._state.apply(event, now)
                    self._write(self._lines(event))
            if self._painter is None and self._state.busy:
                self._painter = threading.Thread(target=self._paint, name="progress", daemon=True)
                self._painter.start()

    def close(self) -> None:
        """Stop drawing; say what was under way; leave the cursor on a line of its own."""
        self._closing.set()
        if self._painter is not None:
            self._painter.join(timeout=5)
            self._painter = None
        with self._lock:
            self._state.ended = True
            if self._screen is not None:
                self._screen.stop()
                self._screen = None
            self._leave_steps(self._clock())

    def _leave_steps(self, now: float) -> None:
        """Write a line for each step that was under way."""
        left = list(self._state.steps.values())
        self._state.steps.clear()
        self._write([stopped_line(step, now, self._width, self._glyphs) for step in left])
        for step in left:
            step.transcript.close()

    @property
    def _width(self) -> int:
        return self.sink.width()

    def _lines(self, event: Event) -> list[Line]:
        width, glyphs = self._width, self._glyphs
        match event:
            case StageStarted():
                return [stage_line(event, width, glyphs)]
            case Notice():
                style = "yellow" if event.level == "warning" else "dim"
                return [((" ", ""), (glyphs.warning, style), (" ", ""), (wording.notice(event), style))]
            case OutputWritten():
                return [fit((glyphs.done, "green"), wording.output_written(event), "", width, glyphs)]
            case BuildFinished():
                return [fit((glyphs.done, "green"), wording.build_finished(event), "", width, glyphs)]
            case BuildFailed():
                return [((text, ""),) for text in event.report.rstrip("\n").split("\n")]
            case _:
                return []

    def _step_finished(self, event: StepFinished, now: float) -> None:
        step = self._state.steps.get(event.step)
        if step is None:
            return
        step.finish()
        lines: list[Line] = []
        if event.outcome != "empty":
            lines.append(step_line(step, event, self._width, self._glyphs))
            reason = event.reason or step.reason
            if self._explain and reason:
                lines.append(remark(reason, self._width, self._glyphs))
        if event.outcome == "failed":
            # All of it, and unclipped: this is what the user has to read, and to copy from.
            self._write([*lines, *(((text.expandtabs(8), ""),) for text in step.transcript)])
            lines = []
        self._state.apply(event, now)
        self._write(lines)

    def _write(self, lines: list[Line]) -> None:
        if not lines:
            return
        if self._screen is not None:
            self._screen.write(lines)
        else:
            self.sink.write("".join(ansi(line, self._colour) + "\n" for line in lines))

    def _paint(self) -> None:
        if self._closing.wait(PATIENCE):
            return
        from builder.progress.live import Screen

        while not self._closing.wait(_FRAME):
            with self._lock:
                if self._closing.is_set() or not self.sink.open:
                    return
                if self._screen is None:
                    if not self._state.busy:
                        continue
                    self._screen = Screen(self.sink, self._colour)
                self._screen.draw(lambda width, height: self._frame(width, height))

    def _frame(self, width: int, height: int) -> list[Line]:
        return frame(self._state, self._clock(), width, height, self._glyphs)
