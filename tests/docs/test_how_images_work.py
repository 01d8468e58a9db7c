"""docs/how-images-work.md runs as it is shown: its commands, in one shell, give the output that it shows."""

from __future__ import annotations

import glob
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass

import pytest

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(REPOSITORY, "docs", "how-images-work.md")

_MARK = "\x1e"
"""Written by the shell after each command; nothing on the page prints it."""


@dataclass(frozen=True, slots=True)
class Example:
    """A command of the page, as typed, and the output that the page shows for it.

    In that output `…` stands for any text within a line, and a line that is just `…` for any lines.
    No output shown means none at all.
    """

    line: int
    command: str
    shown: str

    def pattern(self) -> re.Pattern[str]:
        """Return what the real output must match, from its first byte to its last."""
        lines = [
            r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n"
            for line in self.shown.splitlines()
        ]
        return re.compile("".join(lines))

    def may_fail(self) -> bool:
        """Whether the page shows an error message of the command, `name: what is wrong`."""
        name = shlex.split(self.command, comments=True)[0]
        return any(line.startswith(f"{name}: ") for line in self.shown.splitlines())


def examples(text: str) -> list[Example]:
    """Return what the ```console blocks show: `# ` before a command, `> ` before its further lines."""
    found: list[Example] = []
    inside = False
    start, command, shown = 0, [], []

    def finish() -> None:
        if command:
            found.append(Example(start, "\n".join(command), "".join(line + "\n" for line in shown)))

    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            if inside:
                finish()
                command, shown = [], []
            inside = line == "```console"
        elif not inside:
            continue
        elif line.startswith("# "):
            finish()
            start, command, shown = number, [line[2:]], []
        elif line == ">" or line.startswith("> "):
            command.append(line[2:])
        else:
            shown.append(line)
    return found


def script(parts: list[Example]) -> str:
    """Return the session as a script that marks where each command's output ends, and with what status."""
    return "".join(f"{part.command}\nprintf '{_MARK}%s {_MARK}' \"$?\"\n" for part in parts)


def mounts_of(directory: str) -> list[str]:
    """Return the mounts of this host that stand below `directory` or are made of something in it."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        return [line for line in table if directory in line]


@pytest.fixture
def shell_environment(tmp_path) -> dict[str, str]:
    """A `pybuild` on PATH that is this checkout's, and a place for the page's mktemp."""
    tools = tmp_path / "bin"
    tools.mkdir()
    command = tools / "pybuild"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m builder.main "$@"\n')
    command.chmod(0o755)
    return {
        "PATH": f"{tools}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": REPOSITORY,
        "TMPDIR": str(tmp_path),
        "HOME": "/root",
        "LANG": "C.UTF-8",
    }


def test_the_page_runs_as_shown(shell_environment: dict[str, str]) -> None:
    assert os.geteuid() == 0, "the page's commands are typed as root: run the tests as root"
    with open(PAGE, encoding="utf-8") as page:
        parts = examples(page.read())
    assert len(parts) > 20

    session = subprocess.run(
        ["bash", "-c", script(parts)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=shell_environment,
        timeout=300,
    )
    pieces = session.stdout.split(_MARK)
    outputs, statuses = pieces[0::2], [int(status) for status in pieces[1::2]]
    for part, output, status in zip(parts, outputs, statuses, strict=False):
        where = f"docs/how-images-work.md:{part.line}: {part.command}"
        assert part.pattern().fullmatch(output), f"{where}\n--- shown\n{part.shown}--- printed\n{output}"
        assert status == 0 or part.may_fail(), f"{where}: exit status {status}\n{output}"
    assert len(statuses) == len(parts), f"the shell ended early: {session.stdout[-2000:]}"
    assert not mounts_of(shell_environment["TMPDIR"])
    assert not glob.glob(os.path.join(shell_environment["TMPDIR"], "tmp.*"))


def test_an_example_that_prints_something_else_is_seen() -> None:
    (part,) = examples("```console\n# echo $((6 * 7))\n4…\n…\nend\n```\n")
    assert part.pattern().fullmatch("42\na\nb\nend\n")
    assert part.pattern().fullmatch("4\nend\n")
    assert not part.pattern().fullmatch("52\nend\n")
    assert not part.pattern().fullmatch("42\nend\nmore\n")


def test_continued_commands_and_errors_are_understood() -> None:
    text = "```console\n# cat <<EOF\n> x\n>\n> EOF\nx\n\n# ls /none\nls: cannot access\n```\n# no example\n"
    first, second = examples(text)
    assert (first.command, first.shown, first.line) == ("cat <<EOF\nx\n\nEOF", "x\n\n", 2)
    assert not first.may_fail()
    assert second.may_fail()
