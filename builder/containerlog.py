"""What a container wrote while nobody looked: the JSON lines of docker's json-file driver, in a file that
does not grow without bound.

    {"log": "a line\\n", "stream": "stdout", "time": "2026-01-02T03:04:05.678901Z"}
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader

    from builder.executor import Stream

MOST = 16 << 20
"""Bytes of a file: at that size it becomes log.1, and what was that is gone."""

_LONGEST = 16 << 10  # of a line in one entry, as with docker
_INTERVAL = 0.05  # seconds between looks at a log that is followed


class LogWriter:
    """Appends to the log in `directory`; `most` as MOST."""

    def __init__(self, directory: str, most: int = MOST) -> None:
        self._path = directory + "/log"
        self._most = most
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
        self._size = 0
        self._open: dict[str, bytes] = {}

    def write(self, stream: Stream, data: bytes) -> None:
        """Write what a stream brought, line by line. What is no whole line waits for the rest of it."""
        *lines, rest = (self._open.get(stream, b"") + data).split(b"\n")
        for line in lines:
            self._entry(stream, line + b"\n")
        while len(rest) >= _LONGEST:
            self._entry(stream, rest[:_LONGEST])
            rest = rest[_LONGEST:]
        self._open[stream] = rest

    def close(self) -> None:
        """Write what no newline ended."""
        for stream, rest in self._open.items():
            if rest:
                self._entry(stream, rest)
        self._open.clear()
        self._file.close()

    def _entry(self, stream: str, text: bytes) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        entry = {"log": text.decode(errors="surrogateescape"), "stream": stream, "time": stamp}
        line = json.dumps(entry).encode() + b"\n"
        if self._size and self._size + len(line) > self._most:
            self._file.close()
            os.rename(self._path, self._path + ".1")
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
            self._size = 0
        self._size += self._file.write(line) or 0


Entry = tuple[bytes, str, str]
"""The text, its stream and when it came (RFC 3339, UTC)."""


def read(directory: str) -> Iterator[Entry]:
    """Yield what is in the log, the oldest first."""
    for name in ("log.1", "log"):
        try:
            file = open(f"{directory}/{name}", "rb")  # noqa: SIM115
        except FileNotFoundError:
            continue
        with file:
            yield from filter(None, map(_parse, file))


def follow(directory: str, more: Callable[[], bool]) -> Iterator[Entry | None]:
    """Yield what is in the log and what is added, for as long as `more` says so; None where there is nothing
    new for the moment.
    """
    try:
        older = open(f"{directory}/log.1", "rb")  # noqa: SIM115
    except FileNotFoundError:
        pass
    else:
        with older:
            yield from filter(None, map(_parse, older))
    file = open(f"{directory}/log", "rb")  # noqa: SIM115
    rest = b""
    try:
        while True:
            last = not more()  # asked before the end is read: what was written until then is there
            while line := file.readline():
                rest += line
                if rest.endswith(b"\n"):
                    if entry := _parse(rest):
                        yield entry
                    rest = b""
            successor = _successor(directory, file.fileno())
            if successor is not None:
                file.close()
                file = successor
                continue
            if last:
                return
            yield None
            time.sleep(_INTERVAL)
    finally:
        file.close()


def _successor(directory: str, fd: int) -> BufferedReader | None:
    """Return the file that is the log by now, None if it still is that which is open as `fd`."""
    try:
        file = open(f"{directory}/log", "rb")  # noqa: SIM115
    except FileNotFoundError:
        return None
    if os.path.sameopenfile(file.fileno(), fd):
        file.close()
        return None
    return file


def _parse(line: bytes) -> Entry | None:
    try:
        value = json.loads(line)
        return value["log"].encode(errors="surrogateescape"), value["stream"], value["time"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # cut short by the end of whoever wrote it
