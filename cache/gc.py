"""What the store holds that nothing needs any more, and taking it away.

Needed is what an image with a name is made of, and what a running build or container holds (`cache.pins`).
All else is cache: worth keeping as long as there is room. A layer goes only after those on it.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.disk import storing
from cache.prunechoice import choose
from cache.prunepolicy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cache.oci.digest import ChainID
    from cache.prunepolicy import Item
    from cache.store import Store


@dataclass(frozen=True, slots=True)
class Report:
    """What a prune took away (would take away, if `dry_run`), in order, and how many bytes that is; `kept`
    bytes are not needed either, but were left. `missing` bytes are not free that a policy wants free: there
    was nothing left to take."""

    items: tuple[Item, ...]
    freed: int
    kept: int
    dry_run: bool
    missing: int = 0


def prune(
    store: Store,
    policies: Sequence[Policy] = (Policy(),),
    *,
    dry_run: bool = False,
    keep: Iterable[ChainID] = (),
) -> Report:
    """Take away what `policies` say, one after another, and return a report. `keep` names chains that are
    needed beside those of images.

    Builds that run meanwhile are not disturbed: what they were given stays. Raises StoreError; the store is
    sound then, and what was not taken away is as it was.
    """
    from cache import reserve

    keep = tuple(keep)
    with storing("pruning the store"):
        if not dry_run:
            reserve.give_back(store.root)
        items, prunable = _once(store, policies, dry_run, keep)
        freed = last = sum(item.size for item in items)
        # What a layer takes on the disk is not what its tar has: more may have to go than was thought.
        while last and not dry_run and missing(store, policies):
            more, _ = _once(store, policies, dry_run, keep)
            last = sum(item.size for item in more)
            items += more
            freed += last
    if not dry_run:
        with contextlib.suppress(OSError):  # still full: the next prune sees to it
            reserve.keep(store.root)
    short = missing(store, policies, freed if dry_run else 0)
    return Report(tuple(items), freed, prunable - freed, dry_run, short)


def missing(store: Store, policies: Sequence[Policy], more: int = 0) -> int:
    """Return how many bytes are not free that the policies want free, if `more` of them came free."""
    wanted = max((policy.min_free or 0 for policy in policies), default=0)
    return max(0, wanted - free_bytes(store.root) - more) if wanted else 0


def free_bytes(path: str) -> int:
    """Return what is free on the disk of `path`, as df(1) says. Raises OSError."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def _once(
    store: Store, policies: Sequence[Policy], dry_run: bool, keep: tuple[ChainID, ...]
) -> tuple[list[Item], int]:
    from cache.layerremoval import exclusively
    from cache.survey import survey
    from cache.takeaway import Removal

    removal = Removal(store)
    cache_mounts = any("cache mount" in policy.kinds for policy in policies)
    try:
        with exclusively(store.layers):
            found = survey(store, keep, cache_mounts=cache_mounts)
            free = free_bytes(store.root)
            items, prunable = choose(found, policies, int(time.time()), removal.is_held, free)
            if not dry_run:
                items = removal.take(items, found)
    finally:
        removal.finish()
    if not dry_run:
        removal.tidy(found)
    return items, prunable
