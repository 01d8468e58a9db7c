"""Secrets in what a step prints: their values are shown as `***`, wherever a value may be cut in two.

What is shorter than four bytes is not masked: it would tear ordinary output to pieces, and hides nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from builder.executor import Output, Stream

SHOWN = b"***"
SHORTEST = 4


class Mask:
    """The values that must not be shown. Every method is safe from several threads at once."""

    def __init__(self) -> None:
        self.values: tuple[bytes, ...] = ()
        self._lock = Lock()

    def add(self, secret: bytes) -> None:
        """Have `secret` masked, each of its lines for itself: a key is seldom printed as a whole."""
        lines = {line.strip() for line in secret.splitlines()}
        with self._lock:
            found = {*self.values, *(line for line in lines if len(line) >= SHORTEST)}
            self.values = tuple(sorted(found))


@contextmanager
def masked(mask: Mask, show: Output) -> Iterator[Output]:
    """Yield where a command's output goes: to `show`, with the secrets in it masked, all of it when this
    ends.
    """
    streams: dict[Stream, Masked] = {
        "stdout": Masked(mask, lambda data: show("stdout", data)),
        "stderr": Masked(mask, lambda data: show("stderr", data)),
    }
    try:
        yield lambda stream, data: streams[stream].feed(data)
    finally:
        for each in streams.values():
            each.flush()


class Masked:
    """One stream of output on its way to `show`. What may be the beginning of a secret is held back until
    more comes, or `flush`.
    """

    def __init__(self, mask: Mask, show: Callable[[bytes], None]) -> None:
        self._mask = mask
        self._show = show
        self._held = b""
        self._covered = 0  # how much of what is held is a part of what is shown as masked already

    def feed(self, data: bytes) -> None:
        """Take the next piece, cut anywhere."""
        values = self._mask.values
        if not values and not self._held:
            self._show(data)
            return
        text = self._held + data
        self._pass_on(text, _first_beginning(text, values), values)

    def flush(self) -> None:
        """Show what is held back: nothing more comes."""
        if self._held:
            self._pass_on(self._held, len(self._held), self._mask.values)

    def _pass_on(self, text: bytes, end: int, values: Iterable[bytes]) -> None:
        """Show `text` up to `end`, and hold the rest."""
        shown: list[bytes] = []
        at = 0
        begun = self._covered
        for start, stop in _united([*((0, begun) for _ in range(begun > 0)), *_occurrences(text, values)]):
            if start >= end:
                break
            shown.append(text[at:start])
            if start or not begun:
                shown.append(SHOWN)
            at = stop
        shown.append(text[at:end])
        self._held = text[end:]
        self._covered = max(0, at - end, begun - end)
        if data := b"".join(shown):
            self._show(data)


def _occurrences(text: bytes, values: Iterable[bytes]) -> list[tuple[int, int]]:
    """Return where values are, also where they overlap."""
    found: list[tuple[int, int]] = []
    for value in values:
        start = text.find(value)
        while start >= 0:
            found.append((start, start + len(value)))
            start = text.find(value, start + 1)
    return found


def _united(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order, those that overlap as one."""
    united: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if united and start < united[-1][1]:
            united[-1] = united[-1][0], max(stop, united[-1][1])
        else:
            united.append((start, stop))
    return united


def _first_beginning(text: bytes, values: Iterable[bytes]) -> int:
    """Return where the first value begins that goes on beyond the end of `text`; its length if none does."""
    first = len(text)
    for value in values:
        start = text.find(value[:1], max(0, len(text) - len(value) + 1))
        while 0 <= start < first:
            if value.startswith(text[start:]):
                first = start
            else:
                start = text.find(value[:1], start + 1)
    return first
