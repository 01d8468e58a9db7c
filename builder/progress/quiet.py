"""Nothing, unless something goes wrong: then the failed step's output and the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.events import BuildFailed, StepFinished, StepOutput, StepStarted
from builder.progress import wording
from builder.progress.base import StreamDisplay
from builder.progress.state import LiveStep

if TYPE_CHECKING:
    from builder.events import Event
    from builder.progress.sink import Sink


class QuietDisplay(StreamDisplay):
    """Keeps the output of the steps under way, and shows that of a failed one."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        self._steps: dict[int, LiveStep] = {}

    def emit(self, event: Event) -> None:
        """Show `event` if it is a failure."""
        match event:
            case StepStarted():
                self._steps[event.step] = LiveStep(event, 0.0)
            case StepOutput() if event.step in self._steps:
                self._steps[event.step].feed(event.stream, event.data)
            case StepFinished() if event.step in self._steps:
                step = self._steps.pop(event.step)
                if event.outcome == "failed":
                    step.finish()
                    for line in step.transcript:
                        self.sink.write(line + "\n")
                    self.sink.write(f"{wording.step_title(step.event)}: {wording.exit_words(event.status)}\n")
                step.transcript.close()
            case BuildFailed():
                self.sink.write(event.report.rstrip("\n") + "\n")
            case _:
                pass
