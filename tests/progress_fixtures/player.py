"""Shows a build on stderr, in a process of its own: `python player.py SCENE [MODE]`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.dirname(os.path.dirname(HERE)))

from builder.events import (  # noqa: E402
    BuildFinished,
    Event,
    StageStarted,
    StepFinished,
    StepOutput,
    StepRunning,
    StepStarted,
    TransferProgress,
    TransferStarted,
)
from builder.progress import open_display  # noqa: E402
from tests.progress_fixtures.script import BUILT, FAILED, IMAGE, all_cached  # noqa: E402

Emit = Callable[[Event], None]


def cached(emit: Emit) -> None:
    """A build that finds everything; then says on stdout whether rich was loaded."""
    for event in all_cached(5):
        emit(event)
    print("rich was loaded" if "rich" in sys.modules else "rich was not loaded")


def built(emit: Emit) -> None:
    """A build in which everything happens, slowly enough for each step to be drawn."""
    for _, event in BUILT:
        emit(event)
        time.sleep(0.05)
    print(IMAGE)


def failed(emit: Emit) -> None:
    """A step that fails after it was drawn."""
    for _, event in FAILED:
        emit(event)
        time.sleep(0.05)


def endless(emit: Emit) -> None:
    """Two steps and a transfer that go on until somebody interrupts them."""
    emit(StageStarted("build", "debian:bookworm", 3))
    emit(StepStarted(1, "build", 1, 3, "RUN configure", "java.rec", 1))
    emit(StepFinished(1, "cached", 0.0))
    emit(
        StepStarted(
            2,
            "build",
            2,
            3,
            "RUN make everything that there is to make in this rather long line",
            "java.rec",
            2,
        )
    )
    emit(StepRunning(2, "no record"))
    emit(StepStarted(3, "build", 3, 3, "RUN other", "java.rec", 3))
    emit(StepRunning(3, "no record"))
    emit(TransferStarted("t", "pulling debian", 50_000_000))
    for number in range(100_000):
        emit(
            StepOutput(
                2,
                "stdout",
                b"compiling a file of a fairly long name, as they have in Java: number %d\n" % number,
            )
        )
        emit(TransferProgress("t", min(number * 100_000, 50_000_000)))
        time.sleep(0.02)


def flood(emit: Emit) -> None:
    """More output than a pipe holds."""
    emit(StepStarted(1, "build", 1, 1, "RUN yes", "java.rec", 1))
    emit(StepRunning(1, "no record"))
    for _ in range(200):
        emit(StepOutput(1, "stdout", b"y\n" * 1000))
    emit(StepFinished(1, "ran", 0.1))
    emit(BuildFinished(IMAGE, (), 0.1, 1, 0))
    print(IMAGE)


def main(scene: str, mode: str = "auto") -> int:
    """Return the exit code."""
    with open_display(mode, sys.stderr) as display:  # type: ignore[arg-type]
        globals()[scene](display.emit)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
