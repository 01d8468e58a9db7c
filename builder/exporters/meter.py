"""Progress of what goes out: bytes that pass are counted, and reported now and then, from any number of
threads."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from builder.events import TransferFinished, TransferProgress, TransferStarted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.events import Emit
    from cache.compression import Writable

_REPORT_EVERY = 0.1  # seconds: a display can show no more, and a log wants no more
_WORTH_TELLING = 1 << 20  # bytes: less is through at once


class Stopped(Exception):
    """The rest of the output has failed, so that this part of it is of no use."""


class Meters:
    """Those of one output. After `stop`, whoever writes through one of them gets Stopped."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._emitting = threading.Lock()
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True

    @contextmanager
    def transfer(self, name: str, label: str, total: int, sink: Writable) -> Iterator[Meter]:
        """Report the beginning and the end of the transfer `name` of `total` bytes, unless that is little."""
        meter = Meter(self, name, sink)
        if total < _WORTH_TELLING:
            yield meter
            return
        self.tell(TransferStarted(name, label, total))
        yield meter
        self.tell(TransferFinished(name, meter.done))

    def tell(self, event: TransferStarted | TransferProgress | TransferFinished) -> None:
        """Emit one event at a time."""
        with self._emitting:
            self._emit(event)


class Meter:
    """Hands bytes on to `sink`, and counts them. For one thread."""

    __slots__ = ("_meters", "_name", "_reported", "done", "sink")

    def __init__(self, meters: Meters, name: str, sink: Writable) -> None:
        self._meters = meters
        self._name = name
        self._reported = monotonic()
        self.sink = sink
        self.done = 0

    def write(self, data: bytes, /) -> None:
        if self._meters.stopped:
            raise Stopped
        self.sink.write(data)
        self.count(len(data))

    def count(self, size: int) -> None:
        """Take note of bytes that went another way."""
        self.done += size
        now = monotonic()
        if now - self._reported > _REPORT_EVERY and self.done > _WORTH_TELLING:
            self._reported = now
            self._meters.tell(TransferProgress(self._name, self.done))
