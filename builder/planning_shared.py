"""What shared caches know of the steps that a store does not: asked as a build asks them, and nothing
kept.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.sharedcache import kept_under
from cache.trust import Believed, believed

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.config import Config
    from builder.events import Event
    from builder.planning_store import ReadOnlyStore
    from builder.sharedtier import TierInUse
    from cache.oci.digest import ChainID
    from cache.records import Record


class SharedLookup:
    """Asks the tiers that are read, one after another. Close it."""

    def __init__(self, store: ReadOnlyStore, tiers: Sequence[TierInUse]) -> None:
        self._store = store
        self._tiers = [each for each in tiers if each.tier.reads]

    def find(self, line: str, key: str, parent: ChainID | None) -> tuple[Record, str] | None:
        """Return what a step on `parent` is known to give, and which tier says so; None if none does that is
        believed. `line` is the line of descent. Raises CacheError of a tier that is required.
        """
        kept = self._store.receipts.get(kept_under(key))
        for tier in self._tiers:
            found = self._believed(tier, kept, key, parent) if kept else None
            if found is not None:
                return found, tier.name
        for tier in self._tiers:
            for sealed in tier.each(line, key):
                found = self._believed(tier, sealed, key, parent)
                if found is not None:
                    return found, tier.name
        return None

    def close(self) -> None:
        """Let go of connections."""
        for tier in self._tiers:
            tier.close()

    def _believed(self, tier: TierInUse, sealed: bytes, key: str, parent: ChainID | None) -> Record | None:
        judged = believed(sealed, key, "step", tier.tier.trust, int(time.time()))
        record = judged.entry.record if isinstance(judged, Believed) else None
        return record if record is not None and record.parent == (parent or "") else None


def shared_lookup(
    store: ReadOnlyStore,
    config: Config,
    given: tuple[Sequence[str], Sequence[str]],
    emit: Callable[[Event], None],
    *,
    required: bool,
) -> SharedLookup | None:
    """Return what asks the shared caches that the options `given` (--cache-from, --cache-to) or `config`
    name; None if they name none. `emit` is told of one that does not answer. Raises UsageError.
    """
    if not (any(given) or config.cache.from_ or config.cache.to):
        return None
    from functools import partial

    from builder.cachetiers import open_cache, tiers
    from builder.registries import configured
    from builder.sharedtier import TierInUse

    return SharedLookup(
        store,
        [
            TierInUse(tier, partial(open_cache, tier.spec, configured(config)), emit, required=required)
            for tier in tiers(*given, config)
        ],
    )
