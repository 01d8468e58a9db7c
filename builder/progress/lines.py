"""The terminal display's lines as plain values: pieces of text with a style, fitted to a width.

They can be written by hand, as long as nothing runs, or through rich, once it is loaded; they look the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.progress import wording
from builder.progress.printable import cells, clip, one_line, printable
from builder.progress.units import duration, part_of, size

if TYPE_CHECKING:
    from builder.events import StageStarted, StepFinished
    from builder.progress.state import BuildState, LiveStep, LiveTransfer

Piece = tuple[str, str]
Line = tuple[Piece, ...]

_SGR = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_BAR = 24


class Glyphs:
    """The signs of a display; those of an ASCII terminal where the encoding has no others."""

    def __init__(self, unicode: bool) -> None:
        self.done, self.failed, self.stopped, self.warning = "✔✘■!" if unicode else "+x-!"
        self.spinner = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if unicode else "|/-\\"
        self.gutter = "│" if unicode else "|"
        self.full, self.rest = ("━", "─") if unicode else ("=", "-")
        self.ellipsis = "…" if unicode else "..."
        self.dot = "·" if unicode else "-"

    def spin(self, now: float) -> str:
        """The spinner's frame at `now` seconds."""
        return self.spinner[int(now * 10) % len(self.spinner)]


def ansi(line: Line, colour: bool) -> str:
    """Return `line` for a terminal (SGR sequences, ECMA-48 8.3.117)."""
    if not colour:
        return "".join(text for text, _ in line)
    return "".join(f"\x1b[{_SGR[style]}m{text}\x1b[0m" if style and text else text for text, style in line)


def fit(mark: Piece, left: str, right: str, width: int, glyphs: Glyphs) -> Line:
    """Return ` mark left      right`, the left part cut where they do not both fit."""
    # A terminal's last column is left free: some wrap as soon as it is written.
    room = width - 1 - 3
    right = right if cells(right) <= room // 2 else ""
    space = room - (cells(right) + 2 if right else 0)
    left = clip(left, space, glyphs.ellipsis)
    gap = " " * (space - cells(left) + 2) if right else ""
    return ((" ", ""), mark, (" ", ""), (left, ""), (gap, ""), (right, "dim"))


def stage_line(event: StageStarted, width: int, glyphs: Glyphs) -> Line:
    """The folded line of a stage's base."""
    name = f"[{one_line(event.stage)}] " if event.stage else ""
    return fit((glyphs.done, "green"), f"{name}FROM {one_line(event.base)}", "", width, glyphs)


def step_line(step: LiveStep, finished: StepFinished, width: int, glyphs: Glyphs) -> Line:
    """The folded line of a step that has ended."""
    mark = (glyphs.failed, "red") if finished.outcome == "failed" else (glyphs.done, "green")
    return fit(mark, wording.step_title(step.event), wording.outcome(finished), width, glyphs)


def stopped_line(step: LiveStep, now: float, width: int, glyphs: Glyphs) -> Line:
    """The line of a step that was under way when the build ended."""
    right = f"stopped, {duration(now - step.began)}"
    return fit((glyphs.stopped, "yellow"), wording.step_title(step.event), right, width, glyphs)


def remark(text: str, width: int, glyphs: Glyphs) -> Line:
    """A dim line below a step's."""
    return (("   ", ""), (clip(printable(text), width - 4, glyphs.ellipsis), "dim"))


def running_step(step: LiveStep, now: float, width: int, tail: int, glyphs: Glyphs) -> list[Line]:
    """A step under way: its line, and the last `tail` lines of its output."""
    mark = (glyphs.spin(now), "cyan") if step.running else (glyphs.dot, "dim")
    lines = [fit(mark, wording.step_title(step.event), duration(now - step.began), width, glyphs)]
    output = step.last_lines()[-tail:] if tail > 0 else []
    for text in output:
        shown = clip(text.expandtabs(8), width - 6, glyphs.ellipsis)
        lines.append((("   ", ""), (glyphs.gutter, "dim"), (" ", ""), (shown, "dim")))
    return lines


def transfer_line(transfer: LiveTransfer, now: float, width: int, glyphs: Glyphs) -> Line:
    """A transfer under way, with its bar where the total is known, and where there is room."""
    total, rate, remaining = transfer.event.total, transfer.rate(now), transfer.remaining(now)
    facts = size(transfer.done) if total is None else part_of(transfer.done, total)
    if rate > 0:
        facts += f"  {size(rate)}/s"
    if remaining is not None:
        facts += f"  {duration(remaining)} left"
    line = fit((glyphs.spin(now), "cyan"), one_line(transfer.event.label), facts, width, glyphs)
    label, gap = line[3][0], line[4][0]
    length = min(len(gap) - 4, _BAR)
    if not total or length < 8:
        return line
    filled = min(transfer.done * length // total, length)
    blank = " " * (len(gap) - length - 2)
    bar = ((blank, ""), (glyphs.full * filled, "green"), (glyphs.rest * (length - filled), "dim"), ("  ", ""))
    return (*line[:3], (label, ""), *bar, line[5])


def summary(state: BuildState, now: float, width: int, glyphs: Glyphs) -> Line:
    """The last line: how far the build is, and each stage."""
    elapsed = duration(now - state.began) if state.began is not None else ""
    steps = f"{state.finished_steps}/{state.build.steps} steps" if state.build else ""
    stages = [
        f"{one_line(stage.event.stage)} {'done' if stage.finished else f'{stage.done}/{stage.event.steps}'}"
        for stage in state.stages.values()
        if stage.event.stage
    ]
    separator = f" {glyphs.dot} "
    text = separator.join(part for part in (elapsed, steps, *stages) if part)
    return ((" ", ""), (clip(text, width - 2, glyphs.ellipsis), "bold"))


def frame(state: BuildState, now: float, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """Everything under way, in at most `height` lines of `width` columns.

    Where room is short, output goes first.
    """
    if state.ended:
        return []
    steps = list(state.steps.values())
    transfers = list(state.transfers.values())
    room = height - 1 - len(steps) - len(transfers)
    lines: list[Line] = []
    running = sum(step.running for step in steps)
    tail = min(max(room // running, 0), 5) if running else 0
    for step in steps:
        lines += running_step(step, now, width, tail if step.running else 0, glyphs)
    lines += [transfer_line(transfer, now, width, glyphs) for transfer in transfers]
    hidden = len(lines) - (height - 1)
    if hidden > 0:
        lines = lines[hidden + 1 :] if height > 2 else []
        lines.insert(0, remark(f"and {hidden + 1} more", width, glyphs))
    return [*lines, summary(state, now, width, glyphs)][-max(height, 1) :]
