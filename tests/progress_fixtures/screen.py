"""A real terminal without a window: tmux, which can be looked at, typed at and resized."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Screen:
    """Runs a command in a terminal of its own; the shell that ran it says how it ended, and goes on."""

    def __init__(
        self, command: list[str], *, columns: int = 80, rows: int = 24, env: dict[str, str] | None = None
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="screen-")
        self._socket = os.path.join(self._directory.name, "tmux")
        words = shlex.join(["env", *(f"{name}={value}" for name, value in (env or {}).items()), *command])
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows),
            f"trap : INT; {words}; echo \"ended with $?\"; exec sleep 600",
        )  # fmt: skip

    def _tmux(self, *arguments: str) -> str:
        environment = {
            name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "TMUX")
        }
        return subprocess.run(
            ["tmux", "-S", self._socket, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={**environment, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"},
        ).stdout

    def lines(self) -> list[str]:
        """Everything from the first line ever written to the last one, without blanks at their ends."""
        text = self._tmux("capture-pane", "-p", "-S", "-")
        return [line.rstrip() for line in text.rstrip().split("\n")]

    def wait(self, condition: Callable[[str], bool], seconds: float = 30) -> list[str]:
        """Return the lines as soon as `condition` holds for their text. The limit ends a hung test."""
        deadline = time.monotonic() + seconds
        while True:
            lines = self.lines()
            if condition("\n".join(lines)):
                return lines
            assert time.monotonic() < deadline, "never came to pass; on the screen:\n" + "\n".join(lines)
            time.sleep(0.05)

    def ended(self) -> list[str]:
        """Wait for the command's end; return the lines, the last of which tells its exit code."""
        return self.wait(lambda text: re.search(r"^ended with \d+$", text, re.M) is not None)

    def resize(self, columns: int, rows: int) -> None:
        """Make the terminal larger or smaller.

        tmux tells its program of the second of two changes in a row only after a quarter of a second, in
        which the program draws for a terminal that is no more; no other terminal does that, so it is waited
        for.
        """
        time.sleep(0.5)
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names: `C-c`, `Enter`."""
        self._tmux("send-keys", "--", *keys)

    def cursor_is_shown(self) -> bool:
        """Whether the cursor is visible."""
        return self._tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tmux("kill-server")
        self._directory.cleanup()
