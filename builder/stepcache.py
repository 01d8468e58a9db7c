"""Step key -> record -> layer: find the result of a step, or run it, commit what it changed, and remember
that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.events import Emit, Notice, Outcome, StepFinished, StepRunning
from builder.explain import why
from builder.keys import StepKey
from builder.statistics import HERE, Tally
from builder.version import VERSION
from cache.oci.digest import ChainID
from cache.records import Record, decode_parts

if TYPE_CHECKING:
    from builder.sharedcache import Found, Held, SharedCache
    from cache.layers import Layer
    from cache.scratch import Staging
    from cache.store import Store

_CHEAP = 1.0
"""Seconds: what took less the last time is not worth a claim."""

_COMPARED = 10
"""How many earlier builds of a line a miss is compared with: recipes of the same name share them."""


@dataclass(frozen=True, slots=True)
class StepLine:
    """Which line of which recipe a step stands for: what its records are compared by, and how events
    number it.
    """

    number: int
    keyword: str
    recipe: str
    stage: str
    ordinal: int
    descent: str = ""
    """The line of descent of its stage, under which shared caches keep what belongs together."""

    @property
    def line(self) -> str:
        """The name under which records of the same recipe line are found again after an edit."""
        return self._name(self.ordinal)

    @property
    def neighbours(self) -> tuple[str, ...]:
        """The lines that this one may have been before something was put in or taken out above it."""
        near = (self.ordinal, self.ordinal - 1, self.ordinal + 1)
        return tuple(self._name(n) for n in near if n >= 0)

    def _name(self, ordinal: int) -> str:
        name = f"{self.recipe}#{self.stage}:{self.keyword}:{ordinal}"
        # A file name that is no UTF-8 has surrogates in it, which SQLite takes for no text.
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


_MENDED = "mended-"


def is_mended(record: Record) -> bool:
    """Return whether somebody has made by hand what `record` tells of."""
    return record.key.startswith(_MENDED)


class StepCache:
    """The step cache of one build."""

    def __init__(
        self,
        store: Store,
        emit: Emit,
        *,
        epoch: int | None,
        no_cache: bool,
        shared: SharedCache | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._shared = shared
        self._tally = tally or Tally()
        self._doubts: dict[str, str] = {}
        self._store = store
        self._emit = emit
        self._epoch = epoch
        self._no_cache = no_cache
        self.ran = 0
        self.cached = 0
        self.used: list[str] = []
        self._lock = threading.Lock()

    def hit(self, line: StepLine, key: StepKey, parent: ChainID | None, no_cache: str = "") -> Record | None:
        """Return what a step on `parent` is known to give, here or in a shared cache; None if nobody knows.
        `no_cache`: it is to run, for this reason. Raises CacheError of a shared cache that is required.
        """
        started = time.monotonic()
        if self._no_cache or no_cache:
            return None
        record = self._find(key.key)
        if record is not None:
            self._tell(line, record)
            return self._hit(line, record, started, "", HERE)
        if self._shared is None:
            return None
        found, doubts = self._shared.step(line.descent, key.key, parent)
        if found is None:
            self._doubts[key.key] = doubts
            return None
        return self._hit(line, self._taken(found), started, f"from {found.tier}", found.tier)

    def make(
        self,
        line: StepLine,
        key: StepKey,
        parent: ChainID | None,
        run: Callable[[Staging], None],
        *,
        layer: bool = True,
        no_cache: str = "",
    ) -> Record:
        """Let `run` fill a staging's upper, commit it on `parent`, and return the record of that.

        Of several builds that need the same key at once, one runs it. Without `layer`, what `run` wrote is
        thrown away (a test). `no_cache`: it runs, for this reason. Raises what `run` raises.
        """
        started = time.monotonic()
        no_cache = "--no-cache" if self._no_cache else no_cache
        waited: list[bool] = []
        with self._store.lock("step-" + key.key, on_wait=lambda: self._waiting(line, waited)):
            # Again, also if there was nobody to wait for: another may have run it since we looked.
            record = None if no_cache else self._find(key.key)
            if record is not None:
                return self._hit(line, record, started, "another build ran it meanwhile", HERE)
            reason = no_cache or self._reason(line, key)
            with self._claimed(line, key, parent, no_cache) as (found, claim):
                if found is not None:
                    told = f"from {found.tier}: another machine ran it meanwhile"
                    return self._hit(line, self._taken(found), started, told, found.tier)
                self._emit(StepRunning(line.number, reason))
                record = self._run(line, key, parent, run, started, reason, layer)
                self._tell(line, record, claim)
                return record

    def mended(
        self, step: StepKey, line: StepLine, parent: ChainID | None, staging: Staging | None
    ) -> Record:
        """Commit what somebody has made of a step by hand (None: a test, which makes nothing); return what is
        recorded of that: nowhere, since the recipe does not give it.
        """
        now = int(time.time())
        layer = None if staging is None else self._commit(parent, staging, now)[0]
        return Record(
            key=_MENDED + step.key,
            parent=parent or "",
            diff_id=layer.diff_id if layer else None,
            chain_id=layer.chain_id if layer else parent or ChainID(""),
            size=layer.size if layer else 0,
            seconds=0.0,
            created=now,
            version=VERSION,
            line=line.line,
            parts=step.parts,
        )

    def given(self, line: StepLine, record: Record) -> Record:
        """Take `record` for a step. It counts as one that was run: no receipt is left of such a build."""
        with self._lock:
            self.ran += 1
        self._finished(line, "ran", record, 0.0, "mended by hand")
        message = f"step {line.number} was mended by hand: the recipe alone does not give this"
        self._emit(Notice("warning", "step/mended", message))
        return record

    def _find(self, key: str) -> Record | None:
        record = self._store.records.get(key)
        if record is None:
            return None
        if record.diff_id is not None and not self._store.has(record.chain_id):
            return None
        return record

    def _taken(self, found: Found) -> Record:
        """Return the record of an entry that is believed. It stays no more than that: the store has none."""
        record = found.entry.record
        assert record is not None
        if found.entry.value:
            from builder.packagerun import recall

            recall(self._store, record.key, found.entry.value)
        return record

    def _tell(self, line: StepLine, record: Record, claim: Held | None = None) -> None:
        """Tell shared caches what a step gave that ran here, now or earlier."""
        if self._shared is not None:
            value = ""
            if line.keyword == "PACKAGES":
                from builder.packagerun import remembered

                value = remembered(self._store, record.key)
            self._shared.tell(line.descent, record, value, claim)

    @contextmanager
    def _claimed(
        self, line: StepLine, key: StepKey, parent: ChainID | None, no_cache: str
    ) -> Iterator[tuple[Found | None, Held | None]]:
        """Claim a step, unless it is to run anyway, or is known to take less time than to ask."""
        earlier = self._store.records.recent((line.line,), 1) if self._shared is not None else ()
        if self._shared is None or no_cache or (earlier and earlier[0].seconds < _CHEAP):
            yield None, None
            return

        def waiting(tier: str) -> None:
            message = f"step {line.number}: another machine is running it ({tier}); waiting"
            self._emit(Notice("info", "step/waiting", message))

        with self._shared.claimed(line.descent, key.key, parent, waiting) as claim:
            yield claim

    def _hit(self, line: StepLine, record: Record, started: float, reason: str, tier: str) -> Record:
        with self._lock:
            self.cached += 1
            self.used.append(record.key)
        self._tally.hit(record, tier)
        self._finished(line, "cached", record, time.monotonic() - started, reason)
        return record

    def waiting_for_mount(self, line: StepLine, mount_id: str) -> None:
        """Tell that a step waits until another one lets go of a cache mount."""
        message = f"step {line.number}: the cache mount {mount_id} is in use elsewhere; waiting"
        self._emit(Notice("info", "step/waiting", message))

    def _waiting(self, line: StepLine, waited: list[bool]) -> None:
        waited.append(True)
        self._emit(
            Notice("info", "step/waiting", f"step {line.number}: another build is running it; waiting")
        )

    def _run(
        self,
        line: StepLine,
        key: StepKey,
        parent: ChainID | None,
        run: Callable[[Staging], None],
        started: float,
        reason: str,
        layer: bool,
    ) -> Record:
        from cache.writeback import Room

        since = int(time.time())
        with self._store.stage() as staging:
            before = Room.of(self._store.root)
            run(staging)
            if before.is_much_more_than(Room.of(self._store.root)):
                self._store.write_back.begin()
            committed, same = self._commit(parent, staging, since) if layer else (None, False)
        seconds = time.monotonic() - started
        record = Record(
            key=key.key,
            parent=parent or "",
            diff_id=committed.diff_id if committed else None,
            chain_id=committed.chain_id if committed else parent or ChainID(""),
            size=committed.size if committed else 0,
            seconds=seconds,
            created=int(time.time()),
            version=VERSION,
            line=line.line,
            parts=key.parts,
        )
        self._store.records.put(record)
        with self._lock:
            self.ran += 1
            self.used.append(record.key)
        self._tally.ran(seconds, reason)
        outcome: Outcome = "same" if same else "ran" if layer else "passed"
        self._finished(line, outcome, record, seconds, reason)
        return record

    def _commit(self, parent: ChainID | None, staging: Staging, since: int) -> tuple[Layer, bool]:
        """Publish the staging's upper as a layer on `parent`, or return the layer known there that is the
        same.
        """
        from cache.changeset import measure
        from cache.compare import same_result
        from cache.idlemarks import Below

        layers = self._store.layers
        below = Below(lambda: layers.lowerdirs(parent) if parent else ())
        try:
            changeset = measure(staging.upper, clamp=self._epoch, below=below)
        finally:
            below.close()
        if self._epoch is not None:
            since = min(since, self._epoch)  # later mtimes are clamped in the layers that are known
        for candidate in layers.candidates(parent, changeset.signature):
            if same_result(layers.diff_path(candidate), staging.upper, since=since):
                return candidate, True
        return layers.publish(parent, staging, changeset, signature=changeset.signature), False

    def _reason(self, line: StepLine, key: StepKey) -> str:
        earlier = [*self._store.records.recent(line.neighbours, _COMPARED)]
        doubts = self._doubts.get(key.key)
        if doubts:
            return f"what a shared cache has of it is not believed ({doubts})"
        if self._shared is not None and not earlier:
            earlier = self._shared.recent(line.descent, line.neighbours)[:_COMPARED]
        return why(line.keyword, key, [record.parts for record in earlier], self._files)

    def _files(self, digest: str) -> tuple[tuple[str, str], ...] | None:
        known = self._store.memo.get("files", digest)
        return None if known is None else decode_parts(known)

    def _finished(
        self, line: StepLine, outcome: Outcome, record: Record, seconds: float, reason: str
    ) -> None:
        self._emit(
            StepFinished(
                step=line.number,
                outcome=outcome,
                seconds=seconds,
                reason=reason,
                key=record.key,
                diff_id=record.diff_id or "",
                chain_id=record.chain_id,
                size=record.size,
            )
        )
