"""Progress of what comes in: events about several transfers, from one thread, not too many."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.events import TransferFinished, TransferProgress, TransferStarted

if TYPE_CHECKING:
    from builder.events import Emit

_INTERVAL = 0.1
"""Seconds between reports: a display can show no more, and a log wants no more."""


class Transfers:
    """Reports transfers that other threads may be at. Every method is called from one thread, the build's."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._active: dict[str, tuple[Callable[[], int], int]] = {}
        self._next = 0.0

    def start(self, transfer: str, label: str, total: int | None, done: Callable[[], int]) -> None:
        """Report `transfer` as begun; `done` will tell how many bytes are through."""
        self._active[transfer] = (done, 0)
        self._emit(TransferStarted(transfer, label, total))

    def poll(self) -> None:
        """Report what has moved since the last time, if that is long enough ago."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _INTERVAL
        for transfer, (done, reported) in self._active.items():
            count = done()
            if count != reported:
                self._active[transfer] = (done, count)
                self._emit(TransferProgress(transfer, count))

    def finish(self, transfer: str) -> None:
        """Report `transfer` as complete."""
        done, _ = self._active.pop(transfer)
        self._emit(TransferFinished(transfer, done()))
