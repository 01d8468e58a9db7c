"""Secrets in what a step prints: their values are shown as `***`, wherever a value may be cut in two.

What is shorter than four bytes is not masked: it would tear ordinary output to pieces, and hides nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from builder.executor import Output, Stream

SHOWN = b"***"
SHORTEST = 4


_FEW = 16
"""Up to that many values are looked for one by one; of more, a key's lines, most need not be looked at."""


class _Values:
    """Values to be found in a text."""

    def __init__(self, values: Iterable[bytes] = ()) -> None:
        self.sorted = sorted(set(values))
        self._by_length = sorted(self.sorted, key=len)
        self._lengths = [len(value) for value in self._by_length]

    def occurrences(self, text: bytes) -> list[tuple[int, int]]:
        """Return where values are, also where they overlap."""
        found: list[tuple[int, int]] = []
        for value in self._by_length[: bisect_right(self._lengths, len(text))]:
            start = text.find(value)
            while start >= 0:
                found.append((start, start + len(value)))
                start = text.find(value, start + 1)
        return found

    def first_beginning(self, text: bytes) -> int:
        """Return where the first value begins that goes on beyond the end of `text`; its length if none
        does.
        """
        if len(self.sorted) <= _FEW:
            return min((_beginning(value, text) for value in self.sorted), default=len(text))
        for start in range(max(0, len(text) - self._lengths[-1] + 1), len(text)):
            rest = text[start:]
            # What begins with it comes right behind it.
            at = bisect_right(self.sorted, rest)
            if at < len(self.sorted) and self.sorted[at].startswith(rest):
                return start
        return len(text)


def _beginning(value: bytes, text: bytes) -> int:
    start = text.find(value[:1], max(0, len(text) - len(value) + 1))
    while start >= 0 and not value.startswith(text[start:]):
        start = text.find(value[:1], start + 1)
    return start if start >= 0 else len(text)


class Mask:
    """The values that must not be shown. Every method is safe from several threads at once."""

    def __init__(self) -> None:
        self.values = _Values()
        self._lock = Lock()

    def add(self, secret: bytes) -> None:
        """Have `secret` masked, each of its lines for itself: a key is seldom printed as a whole."""
        lines = {line.strip() for line in secret.splitlines()}
        with self._lock:
            self.values = _Values([*self.values.sorted, *(line for line in lines if len(line) >= SHORTEST)])


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
        if not values.sorted and not self._held:
            self._show(data)
            return
        text = self._held + data
        self._pass_on(text, values.first_beginning(text), values)

    def flush(self) -> None:
        """Show what is held back: nothing more comes."""
        if self._held:
            self._pass_on(self._held, len(self._held), self._mask.values)

    def _pass_on(self, text: bytes, end: int, values: _Values) -> None:
        """Show `text` up to `end`, and hold the rest."""
        shown: list[bytes] = []
        at = 0
        begun = self._covered
        before = [(0, begun)] if begun else []
        for start, stop in _united([*before, *values.occurrences(text)]):
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


def _united(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order, those that overlap as one."""
    united: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if united and start < united[-1][1]:
            united[-1] = united[-1][0], max(stop, united[-1][1])
        else:
            united.append((start, stop))
    return united
