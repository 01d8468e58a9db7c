"""pybuild on a terminal of its own, as somebody types at it."""

from __future__ import annotations

import pexpect

from tests.command_fixtures.pybuild import ARGV, Pybuild


class Terminal:
    """pybuild on a terminal of its own; `prompt` is what a debug shell asks with."""

    def __init__(self, pybuild: Pybuild, *argv: str, **env: str) -> None:
        self.child = pexpect.spawn(
            ARGV[0],
            [*ARGV[1:], *argv],
            cwd=pybuild.cwd,
            env=pybuild.environment(TERM="dumb", **env),
            encoding="utf-8",
            timeout=60,
            dimensions=(40, 200),
        )

    def prompt(self, directory: str = "/work", word: str = "debug") -> str:
        """Wait for the prompt; return what came before."""
        self.child.expect_exact(f"{word} {directory}> ")
        return str(self.child.before).replace("\x1b[6n", "")  # busybox asks where the cursor is

    def send(self, line: str) -> None:
        """Type a line, and wait for its echo: the prompt before it may come twice, as a shell draws it anew
        when it is told the terminal's size.
        """
        self.child.sendline(line)
        self.child.expect_exact(line)

    def type(self, line: str, *, at: str = "/work") -> str:
        """Type a line; return what is printed up to the next prompt."""
        self.send(line)
        return self.prompt(at)

    def end(self, line: str) -> tuple[int, str]:
        """Type the last line; return the exit code, and what is printed."""
        self.child.sendline(line)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        self.child.expect(pexpect.EOF)
        text = str(self.child.before)
        self.child.close()
        return int(self.child.exitstatus or 0), text
