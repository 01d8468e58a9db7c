"""The shared cache of one build: what tiers tell is found, judged, and kept; what was run here is told them.

An entry that is believed stays sealed in the store, and each build judges it anew by the trust that it has
itself: what one build believed says nothing to another. Layers stay where they are until somebody reads them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.keys import fact_key
from cache.absent import AbsentLayer, Origin
from cache.entries import unsealed
from cache.trust import Believed, believed

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.sharedtier import TierInUse
    from builder.sharedupload import Upload
    from builder.statistics import Statistics
    from cache.compression import Compression
    from cache.entries import Entry, Kind
    from cache.oci.digest import ChainID, DiffID
    from cache.oci.spec import Descriptor
    from cache.records import Record
    from cache.remote import Claim
    from cache.store import Store

_CLAIM = 60.0
"""Seconds for which a step is claimed. Its holder renews it three times in that time."""

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 3.0


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that is believed, and the name of the tier that told it."""

    entry: Entry
    tier: str


class SharedCache:
    """What a build asks and tells its tiers. For several threads. Close it."""

    def __init__(
        self, store: Store, emit: Emit, tiers: Sequence[TierInUse], compression: Callable[[], Compression]
    ) -> None:
        """`tiers` are asked in that order. `compression` says how images are compressed, if it is asked."""
        self._store = store
        self._compression = compression
        self._emit = emit
        self._tiers = tuple(tiers)
        self._readers = [each for each in tiers if each.tier.reads]
        self._writers = [each for each in tiers if each.tier.writes]
        self._lock = threading.Lock()
        self._upload: Upload | None = None
        self.check: Callable[[], None] = lambda: None
        """Raises what ends the build, if it is to end."""
        self.found: list[Found] = []
        self.doubted: list[str] = []
        """A word for each entry that was not believed."""

    def step(self, line: str, key: str, parent: ChainID | None) -> tuple[Found | None, str]:
        """Return what a step on `parent` is known to give; and if nothing is believed, why what there was is
        not, "" if there was nothing. `line` is its line of descent. Raises CacheError of a tier that is
        required.
        """
        return self._find(line, "step", key, lambda entry: self._fits(entry, parent))

    def base(self, key: str) -> Found | None:
        """Return what a base is known to be."""
        return self._find("", "base", key, _misfit)[0]

    def fact(self, line: str, key: str) -> str | None:
        """Return what a question about root filesystems is known to have for an answer."""
        found = self._find(line, "fact", key, lambda entry: "")[0]
        return None if found is None else found.entry.value

    def recent(self, line: str, lines: Sequence[str]) -> list[Record]:
        """Return what tiers know of earlier builds of recipe lines, to be compared with, the newest first."""
        records = []
        for tier in self._readers:
            for sealed in tier.of_line(line):
                entry = unsealed(sealed)
                if entry is not None and entry.record is not None and entry.record.line in lines:
                    records.append(entry.record)
        return sorted(records, key=lambda record: -record.created)

    def note(self, entry: Entry, tier: TierInUse) -> bool:
        """Note where the layers of an entry can be had; return whether that makes its chain whole."""
        layers = [
            AbsentLayer(parent, diff_id, size, (Origin("cache", tier.tier.place, blob),))
            for parent, diff_id, size, blob in _stack(entry)
        ]
        if not layers:
            return True
        top = layers[-1].chain_id
        if not self._store.has(top):
            for layer in layers:
                if self._store.layers.get(layer.chain_id) is None:
                    self._store.absent.note(layer)
        return self._store.has(top)

    @contextmanager
    def claimed(
        self, line: str, key: str, parent: ChainID | None, on_wait: Callable[[str], None]
    ) -> Iterator[tuple[Found | None, Held | None]]:
        """Claim a step that is to be run, in every tier that can do that; or return what another machine has
        made of it meanwhile. `on_wait` gets the name of the tier in which another has claimed it. What is
        held is let go of unless it was handed on.
        """
        held = Held()
        try:
            for tier in self._tiers:
                if tier.tier.reads and tier.tier.writes and tier.tier.claims:
                    found = self._claim(tier, line, key, parent, held, on_wait)
                    if found is not None:
                        yield found, None
                        return
            yield None, held if held.claims else None
        finally:
            if not held.handed_on:
                held.release()

    def tell(self, line: str, record: Record, value: str = "", held: Held | None = None) -> None:
        """Tell the tiers what a step that ran here gave. `held` is let go of when they know it."""
        if self._writers:
            self._uploads().step(line, record, value, held)
        elif held is not None:
            held.release()

    def tell_base(self, key: str, config: bytes) -> None:
        """Tell the tiers what a base is that was made here."""
        if self._writers:
            self._uploads().base(key, config)

    def tell_fact(self, line: str, key: str, value: str) -> None:
        """Tell the tiers the answer to a question about root filesystems."""
        if self._writers:
            self._uploads().fact(line, key, value)

    def finish(self) -> None:
        """Wait until all is told. Raises CacheError of a tier that is required."""
        if self._upload is not None:
            self._upload.finish()

    def count(self, statistics: Statistics) -> None:
        """Add what was not believed, and what was told."""
        for word in self.doubted:
            statistics.doubted[word] = statistics.doubted.get(word, 0) + 1
        if self._upload is not None:
            statistics.shared, statistics.sent = self._upload.added, self._upload.sent

    def close(self) -> None:
        """Let go of everything; what is under way fails."""
        if self._upload is not None:
            self._upload.stop()
        for tier in self._tiers:
            tier.close(at_once=True)

    def _uploads(self) -> Upload:
        with self._lock:
            if self._upload is None:
                from builder.sharedupload import Upload

                self._upload = Upload(self._store, self._emit, self._writers, self._compression())
            return self._upload

    def _find(
        self, line: str, kind: Kind, key: str, refusal: Callable[[Entry], str]
    ) -> tuple[Found | None, str]:
        now, doubts = int(time.time()), []
        kept = self._store.receipts.get(kept_under(key))
        for tier in self._readers:
            # What was kept is judged by each tier's trust: it needs no question.
            for sealed in [kept] if kept else []:
                found, _ = self._judge(tier, sealed, kind, key, refusal, now)
                if found is not None:
                    return found, ""
        for tier in self._readers:
            for sealed in tier.each(line, key):
                found, doubt = self._judge(tier, sealed, kind, key, refusal, now)
                if found is not None:
                    self._keep(key, sealed)
                    return found, ""
                doubts.append(f"{tier.name}: {doubt}")
        return None, "; ".join(doubts)

    def _judge(
        self,
        tier: TierInUse,
        sealed: bytes,
        kind: Kind,
        key: str,
        refusal: Callable[[Entry], str],
        now: int,
    ) -> tuple[Found | None, str]:
        judged = believed(sealed, key, kind, tier.tier.trust, now)
        if not isinstance(judged, Believed):
            self._doubt(judged.code)
            return None, judged.reason
        refused = refusal(judged.entry)
        if refused:
            self._doubt("altered")
            return None, refused
        if not self.note(judged.entry, tier):
            self._doubt("lost")
            return None, "its layer cannot be had"
        found = Found(judged.entry, tier.name)
        with self._lock:
            self.found.append(found)
        return found, ""

    def _fits(self, entry: Entry, parent: ChainID | None) -> str:
        """A key speaks of one state below, and so must the record: anything else is a lie."""
        assert entry.record is not None
        return "" if entry.record.parent == (parent or "") else "it speaks of another state below"

    def _doubt(self, code: str) -> None:
        with self._lock:
            self.doubted.append(code)

    def _keep(self, key: str, sealed: bytes) -> None:
        self._store.receipts.put(kept_under(key), sealed)

    def _claim(
        self,
        tier: TierInUse,
        line: str,
        key: str,
        parent: ChainID | None,
        held: Held,
        on_wait: Callable[[str], None],
    ) -> Found | None:
        wait, told = _FIRST_WAIT, False
        while not tier.broken:
            if not tier.attempt(lambda remote: remote.claims, False):
                return None
            claim = tier.attempt(lambda remote: remote.claim(key, _CLAIM), None)
            if claim is not None:
                held.add(claim)
            # Whoever held it until a moment ago has told what it gave.
            for sealed in tier.again(key):
                found, _ = self._judge(
                    tier, sealed, "step", key, lambda entry: self._fits(entry, parent), int(time.time())
                )
                if found is not None:
                    self._keep(key, sealed)
                    return found
            if claim is not None:
                return None
            if not told and not tier.broken:
                on_wait(tier.name)
                told = True
            self._sleep(wait)
            wait = min(wait * 1.5, _LONGEST_WAIT)
        return None

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.1))


class Held:
    """Claims that are kept alive until they are let go of."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.handed_on = False
        self._over = threading.Event()

    def add(self, claim: Claim) -> None:
        """Keep a claim alive, too."""
        self.claims.append(claim)
        if len(self.claims) == 1:
            threading.Thread(target=self._renew, name="claim", daemon=True).start()

    def release(self) -> None:
        """Let go of all."""
        self._over.set()
        for claim in self.claims:
            claim.release()

    def _renew(self) -> None:
        from cache.errors import CacheError

        while not self._over.wait(_CLAIM / 3):
            for claim in self.claims:
                try:
                    claim.renew()
                except CacheError:  # somebody has taken it over: then the step is run twice, no more
                    return


def kept_under(key: str) -> str:
    """Return the receipt under which a sealed entry is kept in the store."""
    return f"shared {key}"


def _misfit(entry: Entry) -> str:
    """Return what is the matter with a base, "" if nothing is."""
    from cache.errors import FormatError
    from cache.oci.spec import ImageConfig

    try:
        count = len(ImageConfig.from_json(entry.value.encode()).diff_ids)
    except FormatError as error:
        return error.message
    return "" if count == len(entry.layers) else "its layers are not those of its config"


def _stack(entry: Entry) -> Iterator[tuple[ChainID | None, DiffID, int, Descriptor]]:
    """Yield the layers of an entry, bottom first: what each stands on, its size, its blob."""
    from cache.oci.digest import ChainID
    from cache.oci.spec import ImageConfig

    record = entry.record
    if record is not None:
        if record.diff_id is not None:
            parent = ChainID(record.parent) if record.parent else None
            yield parent, record.diff_id, record.size, entry.layers[0]
    elif entry.kind == "base":
        below: ChainID | None = None
        diff_ids = ImageConfig.from_json(entry.value.encode()).diff_ids
        for diff_id, blob in zip(diff_ids, entry.layers, strict=True):
            yield below, diff_id, blob.size, blob
            below = ChainID.extend(below, diff_id)


class Facts:
    """What is known of root filesystems along one line of descent: answers that need no look at them."""

    def __init__(self, shared: SharedCache, line: str) -> None:
        self._shared = shared
        self._line = line

    def get(self, kind: str, question: str) -> str | None:
        """Return the answer that a shared cache has."""
        return self._shared.fact(self._line, fact_key(kind, question))

    def tell(self, kind: str, question: str, answer: str) -> None:
        """Share an answer that was found here."""
        self._shared.tell_fact(self._line, fact_key(kind, question), answer)
