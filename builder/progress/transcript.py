"""The whole output of a running step, kept in case that it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO

_IN_MEMORY = 1 << 20


class Transcript:
    """Lines in order.

    Beyond a mebibyte they go into a nameless temporary file, which nothing can leave behind.
    """

    __slots__ = ("_file", "_kept", "_lines", "lost")

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._kept = 0
        self._file: IO[bytes] | None = None
        self.lost = False

    def add(self, line: str) -> None:
        """Keep `line`. Where the temporary directory is full, the rest is lost, and `lost` says so."""
        if self.lost:
            return
        if self._file is None and self._kept < _IN_MEMORY:
            self._lines.append(line)
            self._kept += len(line) + 1
            return
        try:
            if self._file is None:
                import tempfile

                self._file = tempfile.TemporaryFile(prefix="pybuild-")  # noqa: SIM115 (closed by close)
            self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            self.lost = True

    def __iter__(self) -> Iterator[str]:
        yield from self._lines
        if self._file is not None:
            try:
                self._file.seek(0)
                for raw in self._file:
                    yield raw.decode("utf-8", "replace").rstrip("\n")
                self._file.seek(0, 2)
            except OSError:
                self.lost = True
        if self.lost:
            yield "(the rest of the output is lost: no space in the temporary directory)"

    def close(self) -> None:
        """Give the file's space back."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what was buffered does not fit; nobody wants it any more
                self._file.close()
            self._file = None
        self._lines.clear()
