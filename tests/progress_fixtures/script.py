"""A scripted build: events with the time at which each happens."""

from __future__ import annotations

import io
from collections.abc import Iterator

from builder.events import (
    BuildFailed,
    BuildFinished,
    BuildStarted,
    Event,
    Notice,
    OutputWritten,
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
from builder.progress import Mode, open_display

IMAGE = "sha256:" + "3f2c" * 16
CHAIN = "sha256:" + "c4" * 32
DIFF = "sha256:" + "d1" * 32
TITLE = "\x1b]0;owned\x07"

BUILT: tuple[tuple[float, Event], ...] = (
    (0.0, BuildStarted("java.rec", "", 2, 6)),
    (0.0, TransferStarted("layer-1", "pulling docker.io/library/debian:bookworm", 48_000_000)),
    (2.0, TransferProgress("layer-1", 12_000_000)),
    (6.0, TransferProgress("layer-1", 40_000_000)),
    (6.5, TransferFinished("layer-1", 48_000_000)),
    (6.5, StageStarted("build", "debian:bookworm", 4)),
    (6.5, StepStarted(1, "build", 1, 4, "RUN apt-get update", "java.rec", 3)),
    (6.5, StepFinished(1, "cached", 0.0, "known since yesterday", chain_id=CHAIN, diff_id=DIFF)),
    (6.5, StepStarted(2, "build", 2, 4, "ENV LANG=C", "java.rec", 4)),
    (6.5, StepFinished(2, "empty", 0.0)),
    (6.5, StepStarted(3, "build", 3, 4, "RUN <<EOF\nset -eu\nmake\nEOF", "java.rec", 5)),
    (6.5, StepRunning(3, "COPY src/ changed: src/Main.java")),
    (6.5, StageStarted("", "scratch", 2)),
    (6.5, StepStarted(4, "", 1, 2, "COPY --from=build /a /b", "java.rec", 9)),
    (7.0, StepOutput(3, "stdout", b"gcc -c main.c\ngcc -c \xc3")),
    (7.1, StepOutput(3, "stderr", b"main.c:3: warning: \x1b[1;31munused\x1b[0m\n")),
    (7.2, StepOutput(3, "stdout", b"\xa4.c\n 10%\r 55%\r100%\n" + TITLE.encode() + b"bell \x07\n\xff\n")),
    (7.3, StepFinished(4, "same", 0.8, size=2048, diff_id=DIFF, chain_id=CHAIN)),
    (7.3, StepStarted(5, "", 2, 2, "TEST --name=answers /b", "java.rec", 10)),
    (7.3, StepRunning(5, "never run before")),
    (7.4, Notice("warning", "lint/tag", "FROM has no tag", "java.rec", 1)),
    (8.0, StepFinished(5, "passed", 0.7)),
    (9.0, StepOutput(3, "stdout", b"done, without a line end")),
    (9.5, StepFinished(3, "ran", 3.0, size=12_345_678, diff_id=DIFF, chain_id=CHAIN)),
    (9.5, StageFinished("build", CHAIN)),
    (9.5, StageFinished("", CHAIN)),
    (70.0, BuildFinished(IMAGE, ("app:1.2", "app:latest"), 70.0, 3, 1)),
    (71.0, OutputWritten("oci", "app.tar", 48_300_000)),
)

FAILED: tuple[tuple[float, Event], ...] = (
    (0.0, BuildStarted("java.rec", "", 1, 2)),
    (0.0, StageStarted("build", "debian:bookworm", 2)),
    (0.0, StepStarted(1, "build", 1, 2, "RUN make", "java.rec", 2)),
    (0.0, StepRunning(1, "no record")),
    *((i / 100, StepOutput(1, "stdout", b"line %d\n" % i)) for i in range(1, 13)),
    (1.0, StepOutput(1, "stderr", b"make: *** [all] Error 2")),
    (1.5, StepFinished(1, "failed", 1.5, status=2)),
    (
        1.5,
        BuildFailed(
            "step/failed",
            "`make` ended with exit code 2",
            1,
            file="java.rec",
            line=2,
            column=1,
            report="error: `make` ended with exit code 2 [step/failed]\n  at java.rec:2:1\n    2 | RUN make",
        ),
    ),
)


class Clock:
    """A clock that shows what it is set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def show(mode: Mode, script: tuple[tuple[float, Event], ...], *, explain: bool = False) -> str:
    """Return what a display of `mode` writes into a pipe for `script`."""
    clock = Clock()
    out = io.StringIO()
    with open_display(mode, out, explain=explain, clock=clock) as display:
        for clock.now, event in script:
            display.emit(event)
    return out.getvalue()


def all_cached(steps: int) -> Iterator[Event]:
    """A build that finds everything."""
    yield BuildStarted("java.rec", "", 1, steps)
    yield StageStarted("build", "debian:bookworm", steps)
    for number in range(1, steps + 1):
        yield StepStarted(number, "build", number, steps, f"RUN step {number}", "java.rec", number)
        yield StepFinished(number, "cached", 0.0)
    yield StageFinished("build", CHAIN)
    yield BuildFinished(IMAGE, ("app:1.2",), 0.01, 0, steps)
