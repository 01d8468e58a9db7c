"""The display for a terminal, in a real one (tmux)."""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import subprocess
import sys
import termios
from functools import partial

import pytest

from builder.events import (
    BuildFailed,
    StageStarted,
    StepFinished,
    StepOutput,
    StepRunning,
    StepStarted,
    TransferStarted,
)
from builder.progress.lines import Glyphs, frame, transfer_line
from builder.progress.printable import cells
from builder.progress.sink import Sink
from builder.progress.state import BuildState, LiveTransfer
from builder.progress.transcript import Transcript
from builder.progress.tty import TtyDisplay
from tests.progress_fixtures.screen import Screen

HERE = os.path.dirname(os.path.abspath(__file__))
PLAYER = os.path.join(os.path.dirname(HERE), "progress_fixtures", "player.py")


def player(scene: str, mode: str = "auto") -> list[str]:
    return [sys.executable, PLAYER, scene, mode]


@pytest.mark.peer("tmux")
def test_what_has_ended_stands_in_order_each_on_its_line() -> None:
    with Screen(player("built")) as screen:
        lines = screen.ended()
    assert [line.split("  ")[0] for line in lines] == [
        " ✔ [build] FROM debian:bookworm",
        " ✔ [build 1/4] RUN apt-get update",
        " ✔ FROM scratch",
        " ✔ [1/2] COPY --from=build /a /b",
        " ! warning: FROM has no tag (java.rec:1) [lint/tag]",
        " ✔ [2/2] TEST --name=answers /b",
        " ✔ [build 3/4] RUN <<EOF ...",
        " ✔ built 3f2c3f2c3f2c as app:1.2, app:latest in 1m10s: 3 steps run, 1 cached",
        " ✔ wrote app.tar: OCI archive, 48.3 MB",
        "sha256:" + "3f2c" * 16,
        "ended with 0",
    ]
    right = {line.split("  ")[0]: line.split("  ")[-1] for line in lines}
    assert right[" ✔ [build 1/4] RUN apt-get update"].strip() == "cached"
    assert right[" ✔ [build 3/4] RUN <<EOF ..."].strip() == "3.0s, 12.3 MB"


@pytest.mark.peer("tmux")
def test_what_runs_is_drawn_with_its_last_lines_its_time_and_its_bar() -> None:
    with Screen(player("endless"), columns=100) as screen:
        lines = screen.wait(lambda text: "━─" in text and "MB/s" in text)
        text = "\n".join(lines)
        assert re.search(r"^ ✔ \[build 1/3\] RUN configure +cached$", text, re.M)
        assert re.search(r"^ [⠀-⣿] \[build 2/3\] RUN make everything .* \d+\.\ds$", text, re.M)
        numbers = [int(n) for n in re.findall(r"^   │ compiling .* number (\d+)$", text, re.M)]
        assert len(numbers) == 5
        assert numbers == list(range(numbers[0], numbers[0] + 5))
        assert re.search(r"pulling debian +━+─+  [\d.]+/50\.0 MB  [\d.]+ MB/s  [\d.]+s left$", text, re.M)
        assert re.search(r"^ .*build 1/3$", lines[-1])


@pytest.mark.peer("tmux")
def test_a_failed_step_shows_all_of_its_output_and_the_error() -> None:
    with Screen(player("failed"), columns=60, rows=8) as screen:
        lines = screen.ended()
    assert re.fullmatch(r" ✘ \[build 1/2\] RUN make +exit code 2, [\d.]+s", lines[1])
    assert lines[2:15] == [*(f"line {n}" for n in range(1, 13)), "make: *** [all] Error 2"]
    assert lines[15] == "error: `make` ended with exit code 2 [step/failed]"
    assert lines[-1] == "ended with 0"


@pytest.mark.peer("tmux")
def test_a_terminal_that_changes_its_size_keeps_one_picture() -> None:
    # Full, as terminals are: of one that is not, tmux moves lines out of reach when it reflows.
    script = f"seq 30; exec {shlex.join(player('endless'))}"
    with Screen(["sh", "-c", script], columns=100) as screen:
        screen.wait(lambda text: "number 10" in text)
        for columns, rows in ((60, 24), (120, 10), (70, 24), (80, 30)):
            screen.resize(columns, rows)
            # Once what was drawn for the old size is gone, nothing of it may be left.
            lines = screen.wait(partial(drawn_for, columns=columns))
            text = "\n".join(lines)
            assert text.count("2/3] RUN make") == 1
            assert text.count("3/3] RUN other") == 1
            assert text.count("pulling debian") == 1
        assert "1/3] RUN configure" in text


def drawn_for(text: str, columns: int) -> bool:
    """Whether the line of the long step reaches just to the last column but one."""
    if "3/3] RUN other" not in text:
        return False
    line = next((line for line in text.split("\n") if "2/3] RUN make" in line), "")
    return re.search(r" \d+\.\ds$", line) is not None and cells(line) == columns - 1


@pytest.mark.peer("tmux")
def test_ctrl_c_leaves_the_terminal_as_it_was() -> None:
    with Screen(player("endless")) as screen:
        screen.wait(lambda text: "number 10" in text)
        assert not screen.cursor_is_shown()
        screen.type("C-c")
        lines = screen.ended()
        assert screen.cursor_is_shown()
    assert lines[-1] == "ended with 130"
    stopped = [line for line in lines if line.startswith(" ■ ")]
    assert [re.sub(r"  +", "  ", line) for line in stopped] == [
        stopped[0].split("  ")[0] + "  " + stopped[0].split("  ")[-1].strip(),
        " ■ [build 3/3] RUN other  " + stopped[1].split("  ")[-1].strip(),
    ]
    assert all(re.search(r"stopped, [\d.]+s$", line) for line in stopped)
    assert not any("│" in line or "pulling" in line for line in lines)


@pytest.mark.peer("tmux")
def test_a_build_that_finds_everything_does_not_load_rich() -> None:
    with Screen(player("cached")) as screen:
        lines = screen.ended()
    assert lines[-2:] == ["rich was not loaded", "ended with 0"]
    assert sum(line.endswith("cached") for line in lines) == 6


@pytest.mark.peer("tmux")
@pytest.mark.parametrize("variable", ["CI=true", "TERM=dumb", "TERM="])
def test_a_terminal_that_cannot_redraw_gets_plain_lines(variable: str) -> None:
    name, _, value = variable.partition("=")
    with Screen(player("cached"), env={name: value}) as screen:
        lines = screen.ended()
    assert lines[0] == "#1 [build] FROM debian:bookworm"


def written(scene: str, **environment: str) -> str:
    """Return what the player writes to a terminal; check that it left the terminal's modes alone."""
    controller, terminal = pty.openpty()
    before = termios.tcgetattr(controller)
    variables = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR")}
    process = subprocess.Popen(
        player(scene),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**variables, "TERM": "xterm-256color", **environment},
    )
    os.close(terminal)
    chunks = []
    try:
        while chunk := os.read(controller, 65536):
            chunks.append(chunk)
    except OSError:  # EIO: the last one that had it open is gone
        pass
    assert process.wait(30) == 0
    assert termios.tcgetattr(controller) == before
    os.close(controller)
    return b"".join(chunks).decode()


def test_colours_are_used_unless_no_color_is_set() -> None:
    assert "\x1b[32m✔\x1b[0m" in written("cached")
    plain = written("cached", NO_COLOR="1")
    assert " ✔ [build 1/5] RUN step 1" in plain
    assert "\x1b" not in plain


def test_without_colour_the_picture_still_moves_but_no_style_is_set() -> None:
    text = written("built", NO_COLOR="1")
    assert re.search(r"\x1b\[[\d;]*m", text) is None
    assert "\x1b[1A" in text


def test_the_cursor_is_shown_again_as_often_as_it_is_hidden() -> None:
    text = written("built")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_step_cannot_send_the_terminal_anything() -> None:
    text = written("built")
    assert "owned" not in text
    assert "\x07" not in text


def many(count: int) -> BuildState:
    state = BuildState()
    state.apply(StageStarted("build", "debian", count), 0.0)
    for number in range(1, count + 1):
        state.apply(StepStarted(number, "build", number, count, f"RUN {'x' * 100}", "r", number), 0.0)
        state.apply(StepRunning(number, ""), 0.0)
        state.apply(StepOutput(number, "stdout", "漢字\tändert nichts\n".encode() * 9), 0.0)
        state.apply(TransferStarted(f"t{number}", "pulling " + "y" * 90, 1000), 0.0)
    return state


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("width", [10, 20, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 24])
def test_the_picture_fits_any_terminal(count: int, width: int, height: int) -> None:
    lines = frame(many(count), 1.0, width, height, Glyphs(True))
    assert 1 <= len(lines) <= height
    assert all(sum(cells(text) for text, _ in line) <= width for line in lines)


def test_where_room_is_short_the_output_of_steps_gives_way_to_the_steps() -> None:
    text = ["".join(piece for piece, _ in line) for line in frame(many(3), 1.0, 80, 7, Glyphs(True))]
    assert sum("RUN" in line for line in text) == 3
    assert sum("pulling" in line for line in text) == 3


def test_a_rate_is_that_of_the_last_seconds() -> None:
    transfer = LiveTransfer(TransferStarted("t", "pulling", 1000), 0.0)
    for second in range(1, 11):
        transfer.advance(second * 10 if second <= 5 else 50 + (second - 5) * 100, float(second))
    assert transfer.rate(10.0) == pytest.approx(100)
    assert transfer.remaining(10.0) == pytest.approx(4.5)


def test_a_transfer_that_starts_anew_has_no_negative_rate() -> None:
    transfer = LiveTransfer(TransferStarted("t", "pulling", 1000), 0.0)
    transfer.advance(900, 1.0)
    transfer.advance(100, 2.0)
    assert transfer.rate(2.0) > 0


def test_a_transfer_of_unknown_size_has_no_bar_and_no_end() -> None:
    transfer = LiveTransfer(TransferStarted("t", "compressing", None), 0.0)
    transfer.advance(5000, 1.0)
    line = "".join(text for text, _ in transfer_line(transfer, 1.0, 100, Glyphs(True)))
    assert "━" not in line and "left" not in line
    assert line.endswith("5.0 kB  5.0 kB/s")


def test_a_transcript_keeps_everything_whatever_its_size() -> None:
    transcript = Transcript()
    expected = [f"line {number} ä" for number in range(200_000)]
    for line in expected:
        transcript.add(line)
    assert list(transcript) == expected
    assert sum(map(len, transcript._lines)) < 2 << 20
    transcript.close()


def test_finished_steps_are_forgotten() -> None:
    state = many(3)
    for number in (1, 2, 3):
        state.apply(StepFinished(number, "ran", 0.1), 1.0)
    assert state.steps == {}
    assert state.stages["build"].done == 3


def test_what_was_under_way_is_told_before_the_error() -> None:
    out = io.StringIO()
    with TtyDisplay(Sink(out), explain=False, colour=False, clock=lambda: 0.0) as display:
        display.emit(StepStarted(1, "build", 1, 2, "RUN make", "r", 1))
        display.emit(BuildFailed("store/full", "no space", 4, report="error: no space [store/full]"))
    stopped, error = out.getvalue().splitlines()
    assert stopped.startswith(" ■ [build 1/2] RUN make ")
    assert error == "error: no space [store/full]"
