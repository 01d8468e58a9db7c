"""A pseudo-terminal for pybuild, as in a user's shell."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios
import time

from tests.command_fixtures.pybuild import ARGV, Pybuild


class Terminal:
    """pybuild on a pseudo-terminal, as in a user's shell."""

    def __init__(self, pybuild: Pybuild, *argv: str) -> None:
        self.fd, child = pty.openpty()
        termios.tcsetwinsize(self.fd, (33, 99))
        self.process = subprocess.Popen(
            (*ARGV, *argv),
            env=pybuild.environment(TERM="vt100"),
            cwd=pybuild.cwd,
            stdin=child,
            stdout=child,
            stderr=child,
            start_new_session=True,
        )
        self.child = child
        self.text = ""

    def expect(self, text: str) -> None:
        end = time.monotonic() + 20
        while text not in self.text:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} did not come: {self.text!r}"
            self.text += os.read(self.fd, 4096).decode()
        self.text = self.text.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def close(self) -> int:
        code = self.process.wait(20)
        os.close(self.fd)
        os.close(self.child)
        return code
