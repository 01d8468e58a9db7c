"""The displays for pipes: plain, json, quiet. Golden outputs are in tests/golden_output."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.events import (
    BuildFinished,
    StepFinished,
    StepOutput,
    StepRunning,
    StepStarted,
    TransferFinished,
    TransferProgress,
    TransferStarted,
)
from builder.progress import MODES, Mode, open_display
from builder.progress.printable import LineSplitter, cells, clip, one_line, printable
from builder.progress.units import duration, part_of, size
from tests.progress_fixtures.script import BUILT, FAILED, IMAGE, show

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(os.path.dirname(HERE), "golden_output")
PLAYER = os.path.join(os.path.dirname(HERE), "progress_fixtures", "player.py")

SCRIPTS = {"built": BUILT, "failed": FAILED}


def golden(name: str) -> str:
    with open(os.path.join(GOLDEN, name), encoding="utf-8") as file:
        return file.read()


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("mode", ["plain", "quiet"])
def test_a_log_reads_as_it_always_did(mode: Mode, script: str) -> None:
    assert show(mode, SCRIPTS[script]) == golden(f"progress-{script}.{mode}.txt")


def test_explain_says_why_a_step_runs() -> None:
    assert show("plain", BUILT, explain=True) == golden("progress-built.explain.txt")


@pytest.mark.parametrize("script", SCRIPTS)
def test_json_reads_as_it_always_did(script: str) -> None:
    shown = records(show("json", SCRIPTS[script]))
    assert all(isinstance(record.pop("time"), float) for record in shown)
    assert shown == records(golden(f"progress-{script}.json.txt"))


@given(
    st.lists(st.binary(max_size=40), max_size=8),
    st.text(max_size=30),
    st.sampled_from(["plain", "quiet", "json"]),
)
def test_no_output_and_no_name_puts_a_control_character_into_a_log(
    pieces: list[bytes], name: str, mode: Mode
) -> None:
    out = io.StringIO()
    with open_display(mode, out) as display:
        display.emit(StepStarted(1, name, 1, 1, name, name, 1))
        display.emit(StepRunning(1, name))
        for piece in pieces:
            display.emit(StepOutput(1, "stdout", piece))
        display.emit(StepFinished(1, "failed", 0.1, name, status=1))
        display.emit(BuildFinished(IMAGE, (name,), 0.1, 0, 0))
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out.getvalue()) is None


def test_a_step_cannot_write_a_line_that_looks_like_another_steps() -> None:
    out = io.StringIO()
    with open_display("plain", out) as display:
        display.emit(StepStarted(1, "build", 1, 1, "RUN x", "r", 1))
        display.emit(
            StepOutput(
                1, "stdout", b"\r#2 CACHED\n\x1b[2K\x1b[1A#2 CACHED\n\x0b#2 CACHED\x0c\xc2\x85#2 CACHED\n"
            )
        )
        display.emit(StepFinished(1, "ran", 0.1))
    assert all(line.startswith("#1 ") for line in out.getvalue().splitlines())


@given(st.binary(max_size=200), st.data())
def test_lines_are_the_same_wherever_the_bytes_are_cut(output: bytes, data: st.DataObject) -> None:
    whole = LineSplitter()
    lines = whole.feed(output) + whole.finish()
    cut = LineSplitter()
    pieces, at = [], 0
    while at < len(output):
        step = data.draw(st.integers(1, len(output) - at))
        pieces += cut.feed(output[at : at + step])
        at += step
    assert pieces + cut.finish() == lines


def test_a_line_without_end_takes_no_memory() -> None:
    splitter = LineSplitter()
    lines = 0
    for _ in range(100):
        lines += len(splitter.feed("ä".encode() * 50_000))
        assert len(splitter._pending) <= LineSplitter.limit
    assert lines == 100 * 100_000 // LineSplitter.limit
    assert "\ufffd" not in "".join(splitter.feed(b"\n"))


def test_a_progress_bar_without_end_takes_no_memory_and_no_lines() -> None:
    splitter = LineSplitter()
    assert [splitter.feed(b"\r%d%% " % (i % 100) + b"=" * 1000) for i in range(1000)] == [[]] * 1000
    assert splitter.finish() == ["99% " + "=" * 1000]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP+q544e\x1b\\x", "x"),
        ("\x9b5nanswer back", "answer back"),
        ("\x1b[6n", ""),
        ("a\x07b\x7fc", "a^Gb^?c"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("tab\tstays", "tab\tstays"),
        ("\ud800", "\\ud800"),
        ("é ü 漢", "é ü 漢"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_or_dropped(raw: str, shown: str) -> None:
    assert printable(raw) == shown


@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs")), max_size=40), st.integers(0, 30))
def test_clipped_text_fits(text: str, width: int) -> None:
    assert cells(clip(text, width)) <= width


def test_text_of_several_lines_becomes_one() -> None:
    assert one_line("RUN <<EOF\nset -eu\nEOF") == "RUN <<EOF ..."
    assert one_line("  RUN   a \t b  ") == "RUN a b"


def test_durations_and_sizes_are_short() -> None:
    assert [duration(s) for s in (0, 0.04, 59.94, 59.96, 64, 3599.4, 7500)] == [
        "0.0s", "0.0s", "59.9s", "1m00s", "1m04s", "59m59s", "2h05m",
    ]  # fmt: skip
    assert [size(n) for n in (0, 999, 1000, 12_345_678, 999_960_000, 5e12)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "1.0 GB", "5.0 TB",
    ]  # fmt: skip
    assert (part_of(812, 48_000_000), part_of(26_400_000, 48_000_000)) == ("812 B/48.0 MB", "26.4/48.0 MB")


def test_a_transfer_that_comes_to_another_part_keeps_its_number() -> None:
    out = io.StringIO()
    with open_display("plain", out, clock=lambda: 0.0) as display:
        for part in ("downloading", "unpacking"):
            display.emit(TransferStarted("base", f"debian: {part}", None))
        display.emit(TransferFinished("base", 5000))
    assert out.getvalue() == "#1 debian: downloading\n#1 debian: unpacking\n#1 DONE 0.0s, 5.0 kB\n"


def test_json_tells_of_a_fast_transfer_ten_times_a_second() -> None:
    now = 0.0
    out = io.StringIO()
    with open_display("json", out, clock=lambda: now) as display:
        for tick in range(1000):
            now = tick / 1000
            display.emit(TransferProgress("t", tick))
    assert 9 <= len(out.getvalue().splitlines()) <= 11


def test_json_completes_characters_that_were_cut() -> None:
    out = io.StringIO()
    with open_display("json", out) as display:
        for byte in "漢字\n".encode():
            display.emit(StepOutput(1, "stdout", bytes([byte])))
        display.emit(StepOutput(1, "stderr", b"\xe6"))
    texts = {"stdout": "", "stderr": ""}
    for record in records(out.getvalue()):
        texts[record["stream"]] += record["text"]
    assert texts == {"stdout": "漢字\n", "stderr": "\ufffd"}


@pytest.mark.parametrize("mode", ["auto", "tty"])
def test_into_a_pipe_go_no_escape_codes(mode: str) -> None:
    done = play("built", mode, env={"TERM": "xterm-256color", "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"})
    assert done.returncode == 0
    assert "\x1b" not in done.stderr
    assert "#5 DONE" in done.stderr
    assert done.stdout == IMAGE + "\n"


@pytest.mark.parametrize("mode", list(MODES))
def test_a_reader_that_leaves_changes_neither_the_result_nor_the_exit_code(mode: str) -> None:
    player = subprocess.Popen(
        [sys.executable, PLAYER, "flood", mode], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert player.stderr is not None and player.stdout is not None
    player.stderr.close()
    assert player.stdout.read() == IMAGE + "\n"
    player.stdout.close()
    assert player.wait() == 0


def test_a_terminal_without_unicode_gets_ascii() -> None:
    done = play("built", "plain", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0
    assert done.stderr.isascii()
    assert "gcc -c \\xe4.c" in done.stderr


def play(scene: str, mode: str, *, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PLAYER, scene, mode], capture_output=True, text=True, env={**os.environ, **env}
    )
