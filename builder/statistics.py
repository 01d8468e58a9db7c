"""What the cache was good for in a build: kept in the store, for `pybuild cache stats`."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.events import TransferFinished

if TYPE_CHECKING:
    from builder.events import Emit, Event
    from cache.records import Record
    from cache.store import Store

HERE = ""
"""Where a hit comes from that the store itself knew."""

_KIND = "build"
_KEPT = 1000
"""Builds that are kept: the newest."""


@dataclass(slots=True)
class Hits:
    """Steps that were not run, the seconds that they once took, and the bytes of layers that were not
    made.
    """

    steps: int = 0
    seconds: float = 0.0
    size: int = 0


@dataclass(slots=True)
class Statistics:
    """One build. `started` is in seconds since 1970; `hits` by the name of the tier that knew, `HERE` among
    them; `misses` counts the steps that ran by why they did; `doubted` counts entries that were not believed,
    by a word for the reason. `fetched` and `sent` are bytes that came and went, compressed; `shared` is how
    many entries were new to shared caches.
    """

    recipe: str = ""
    started: float = 0.0
    seconds: float = 0.0
    failed: bool = False
    ran: int = 0
    ran_seconds: float = 0.0
    hits: dict[str, Hits] = field(default_factory=dict)
    misses: dict[str, int] = field(default_factory=dict)
    doubted: dict[str, int] = field(default_factory=dict)
    fetched: int = 0
    sent: int = 0
    shared: int = 0

    def add(self, other: Statistics) -> None:
        """Count `other` in."""
        self.seconds += other.seconds
        self.ran += other.ran
        self.ran_seconds += other.ran_seconds
        self.fetched += other.fetched
        self.sent += other.sent
        self.shared += other.shared
        for tier, hits in other.hits.items():
            mine = self.hits.setdefault(tier, Hits())
            mine.steps += hits.steps
            mine.seconds += hits.seconds
            mine.size += hits.size
        for counts, more in ((self.misses, other.misses), (self.doubted, other.doubted)):
            for word, count in more.items():
                counts[word] = counts.get(word, 0) + count

    @property
    def all_hits(self) -> Hits:
        """The hits of all tiers."""
        found = self.hits.values()
        return Hits(sum(h.steps for h in found), sum(h.seconds for h in found), sum(h.size for h in found))


class Tally:
    """Counts while a build goes on, and passes its events on. For several threads."""

    __slots__ = ("_began", "_emit", "_lock", "statistics")

    def __init__(self, emit: Emit = lambda event: None) -> None:
        self._emit = emit
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self.statistics = Statistics(started=time.time())

    def __call__(self, event: Event) -> None:
        """Take an event: layers that were fetched count."""
        if type(event) is TransferFinished and event.transfer.startswith("fetch "):
            with self._lock:
                self.statistics.fetched += event.done
        self._emit(event)

    def hit(self, record: Record, tier: str) -> None:
        """Count a step that was not run."""
        with self._lock:
            hits = self.statistics.hits.setdefault(tier, Hits())
            hits.steps += 1
            hits.seconds += record.seconds
            hits.size += record.size

    def ran(self, seconds: float, reason: str) -> None:
        """Count a step that was run, and why: what stands before the details."""
        word = reason.partition(": ")[0]
        with self._lock:
            self.statistics.ran += 1
            self.statistics.ran_seconds += seconds
            self.statistics.misses[word] = self.statistics.misses.get(word, 0) + 1

    def keep(self, store: Store, recipe: str, *, failed: bool) -> None:
        """Keep what was counted."""
        found = self.statistics
        found.recipe, found.failed = recipe, failed
        found.seconds = round(time.monotonic() - self._began, 3)
        store.memo.add_last(_KIND, f"{time.time_ns():020}", _encode(found), _KEPT)


def recent(store: Store, count: int) -> list[Statistics]:
    """Return the last `count` builds of the store, the newest first."""
    read = (_decode(value) for value in store.memo.last(_KIND, count))
    return [each for each in read if each is not None]


def _encode(found: Statistics) -> bytes:
    import json
    from dataclasses import asdict

    return json.dumps(asdict(found), ensure_ascii=True).encode()


def _decode(value: bytes) -> Statistics | None:
    import json

    try:
        members = json.loads(value)
        members["hits"] = {tier: Hits(**each) for tier, each in members["hits"].items()}
        return Statistics(**members)
    except (ValueError, KeyError, TypeError, AttributeError):  # another pybuild's
        return None
