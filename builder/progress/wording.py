"""How events are put into words, the same in every display."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.progress.printable import one_line, printable
from builder.progress.units import duration, size

if TYPE_CHECKING:
    from builder.events import BuildFinished, Notice, OutputWritten, StepFinished, StepStarted

OUTPUT_KINDS = {
    "oci": "OCI archive",
    "oci-layout": "OCI layout",
    "docker": "Docker archive",
    "tar": "root filesystem archive",
    "dir": "root filesystem",
    "registry": "registry",
}


def step_title(step: StepStarted) -> str:
    """[builder 2/5] RUN make"""
    stage = f"{one_line(step.stage)} " if step.stage else ""
    return f"[{stage}{step.number}/{step.of}] {one_line(step.text)}"


def exit_words(status: int) -> str:
    """exit code 2; killed by signal 9 (exit code 137), as a shell reports it; failed, if no command ran."""
    if status <= 0:
        return "failed"
    if 128 < status < 128 + 65:
        return f"killed by signal {status - 128} (exit code {status})"
    return f"exit code {status}"


def outcome(finished: StepFinished) -> str:
    """How the step ended, in a word or two."""
    seconds = duration(finished.seconds)
    match finished.outcome:
        case "cached":
            return "cached"
        case "same":
            return f"same result as before, {seconds}"
        case "passed":
            return f"passed, {seconds}"
        case "failed":
            return f"{exit_words(finished.status)}, {seconds}"
        case "empty":
            return ""
        case "ran":
            return f"{seconds}, {size(finished.size)}" if finished.size else seconds


def notice(event: Notice) -> str:
    """warning: FROM has no tag (java.rec:3) [lint/tag]"""
    place = f" ({printable(event.file)}:{event.line})" if event.file and event.line else ""
    level = "warning: " if event.level == "warning" else ""
    code = f" [{event.code}]" if event.code else ""
    return f"{level}{one_line(event.message)}{place}{code}"


def output_written(event: OutputWritten) -> str:
    """wrote app.tar: OCI archive, 48.3 MB"""
    kind = OUTPUT_KINDS.get(event.kind, event.kind)
    measure = f", {size(event.size)}" if event.size else ""
    if event.kind == "registry":
        return f"pushed {one_line(event.dest)}{measure}"
    return f"wrote {one_line(event.dest)}: {kind}{measure}"


def build_finished(event: BuildFinished) -> str:
    """built 3f2c01d7a9b4 as app:1.2 in 12.3s: 4 steps run, 5 cached"""
    names = f" as {', '.join(map(one_line, event.names))}" if event.names else ""
    steps = f"{event.ran} step{'' if event.ran == 1 else 's'} run, {event.cached} cached"
    return f"built {event.image_id.removeprefix('sha256:')[:12]}{names} in {duration(event.seconds)}: {steps}"
