"""Where a display writes: text into a stream whose reader may leave at any time."""

from __future__ import annotations

import contextlib
import os
from typing import TextIO


class Sink:
    """Writes whole lines at once, flushes, and falls silent when nobody reads any more.

    A build does not fail because its terminal went away or `| head` had enough; but what is still in Python's
    buffer would raise again when the interpreter exits (and turn the exit code into 120), so the descriptor
    is pointed to /dev/null, as the signal module's documentation advises.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.open = True
        self.encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
        self.unicode = self.encoding.replace("-", "").startswith("utf")

    def write(self, text: str) -> None:
        """Write `text`; what the stream's encoding lacks is written as a backslash escape."""
        if not self.open:
            return
        if not self.unicode:
            text = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        try:
            self._put(text)
        except (OSError, ValueError):  # EPIPE, EIO after a hang-up; ValueError: closed
            self.silence()

    def _put(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except BlockingIOError:  # whoever started us left O_NONBLOCK on the terminal, and it is slow
            import select

            select.select([], [self.stream], [], 5)
            self.stream.flush()

    def silence(self) -> None:
        """Write nothing from now on."""
        self.open = False
        try:
            descriptor = self.stream.fileno()
            null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        except (OSError, ValueError):
            return
        try:
            os.dup2(null, descriptor, inheritable=True)
        finally:
            os.close(null)
        # Not even os.dup2 empties the buffer; this does, into nothing.
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()

    def width(self) -> int:
        """Columns of the terminal, 80 where nobody knows."""
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80
