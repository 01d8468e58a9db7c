"""What the store holds that nothing needs any more, and taking it away.

Needed is what an image with a name is made of, and what a running build or container holds (`cache.pins`).
All else is cache: worth keeping as long as there is room. A layer goes only after those on it, the longest
unused first.
"""

from __future__ import annotations

import contextlib
import heapq
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from cache.disk import storing
from cache.oci.digest import ChainID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cache.store import Store
    from cache.survey import Survey

Kind = Literal["layer", "image", "blob", "record", "remnant", "cache mount", "repository", "failed step"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What to take away of what is not needed: what was not used for `older_than` seconds, and of this the
    longest unused first, until all that is left of it is at most `keep_storage` bytes. None sets no bound:
    with neither, all goes. Sizes are those of layer tars and of blobs."""

    older_than: float | None = None
    keep_storage: int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to take away. `size` in bytes, 0 if another layer has the same changeset; `used` in
    seconds since 1970, 0 where nobody knows. A remnant, named by its path, is what a power cut left
    unusable. `title` is what a person calls it, if that is not its identity: the id of a cache mount, the
    remote of a repository."""

    kind: Kind
    identity: str
    size: int = 0
    used: int = 0
    title: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What a prune took away (would take away, if `dry_run`), in order, and how many bytes that is; `kept`
    bytes are not needed either, but were left."""

    items: tuple[Item, ...]
    freed: int
    kept: int
    dry_run: bool


def prune(
    store: Store,
    policy: Policy | None = None,
    *,
    dry_run: bool = False,
    keep: Iterable[ChainID] = (),
    cache_mounts: bool = False,
) -> Report:
    """Take away what `policy` says, and return a report. `keep` names chains that are needed beside those of
    images. Cache mounts are left alone, and count for nothing, unless `cache_mounts` is set.

    Builds that run meanwhile are not disturbed: what they were given stays. Raises StoreError; the store is
    sound then, and what was not taken away is as it was.
    """
    from cache import reserve
    from cache.layerremoval import exclusively
    from cache.survey import survey
    from cache.takeaway import Removal

    policy = policy or Policy()
    removal = Removal(store)
    with storing("pruning the store"):
        if not dry_run:
            reserve.give_back(store.root)
        try:
            with exclusively(store.layers):
                found = survey(store, keep, cache_mounts=cache_mounts)
                items, prunable = choose(found, policy, int(time.time()), removal.is_held)
                if not dry_run:
                    items = removal.take(items, found)
        finally:
            removal.finish()
    if not dry_run:
        removal.tidy()
        with contextlib.suppress(OSError):  # still full: the next prune sees to it
            reserve.keep(store.root)
    freed = sum(item.size for item in items)
    return Report(tuple(items), freed, prunable - freed, dry_run)


def choose(
    survey: Survey, policy: Policy, now: int, is_held: Callable[[Item], bool]
) -> tuple[list[Item], int]:
    """Return the items to take away, in an order in which each can go, and the bytes of all that is not
    needed.

    Remnants go first, whatever the policy says. Pure, but for `is_held`, which is asked for each item about
    to go.
    """
    chooser = _Chooser(survey)
    prunable = chooser.left
    chosen = [Item("remnant", path) for path in survey.remnants]
    chosen += [Item("record", key) for key in survey.dangling]
    limit = None if policy.older_than is None else now - policy.older_than
    while chooser.ready:
        item = chooser.next()
        unusable = item.kind == "layer" and item.identity in survey.unusable
        if not unusable:
            if limit is not None and item.used > limit:
                break  # the heap is by age: none of the rest is older
            if policy.keep_storage is not None and chooser.left <= policy.keep_storage:
                break
        if not is_held(item):
            chosen += chooser.take(item)
    return chosen, prunable


class _Chooser:
    """What can go next: images, blobs, and layers on which nothing stands, in a heap by last use."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._blockers: dict[ChainID, int] = {}
        self._sharers: dict[str, int] = {}
        self.ready: list[tuple[int, int, str, Item]] = []
        images = [image for image in survey.images if not image.named]
        for layer in survey.layers.values():
            self._sharers[layer.cache_id] = self._sharers.get(layer.cache_id, 0) + 1
            self._block(layer.parent)
        for image in images:
            self._block(image.chain_id)
        self._tops = {image.image_id: image.chain_id for image in images}
        self.left = self._prunable()
        for image in images:
            self._add(0, Item("image", image.image_id, image.size, image.used))
        for blob in survey.blobs:
            self._add(2, Item("blob", blob.digest, blob.size, blob.used))
        for each in survey.repositories:
            self._add(2, Item("repository", each.name, each.size, each.used, each.title))
        for mount in survey.cache_mounts:
            self._add(3, Item("cache mount", mount.name, mount.size, mount.used, mount.id))
        for chain_id in survey.layers:
            self._offer(chain_id)

    def next(self) -> Item:
        """Return the longest unused, which is then no longer offered."""
        return heapq.heappop(self.ready)[3]

    def take(self, item: Item) -> list[Item]:
        """Let `item` go: return it, sized, with the records that go with it, and offer what it stood on."""
        size = item.size
        records: list[Item] = []
        below: ChainID | None
        if item.kind == "layer":
            chain_id = ChainID(item.identity)
            layer = self._survey.layers[chain_id]
            self._sharers[layer.cache_id] -= 1
            size = 0 if self._sharers[layer.cache_id] else layer.size
            records = [Item("record", key, 0, item.used) for key in self._survey.records.get(chain_id, ())]
            below = layer.parent
        else:
            below = self._tops.get(item.identity) if item.kind == "image" else None  # type: ignore[call-overload]
        self.left -= size
        if below is not None and below in self._survey.layers:
            self._blockers[below] -= 1
            self._offer(below)
        return [replace(item, size=size), *records]

    def _block(self, chain_id: ChainID | None) -> None:
        if chain_id is not None:
            self._blockers[chain_id] = self._blockers.get(chain_id, 0) + 1

    def _offer(self, chain_id: ChainID) -> None:
        if chain_id in self._survey.needed or self._blockers.get(chain_id, 0):
            return
        used = 0 if chain_id in self._survey.unusable else self._survey.used[chain_id]
        self._add(1, Item("layer", chain_id, self._survey.layers[chain_id].size, used))

    def _add(self, rank: int, item: Item) -> None:
        heapq.heappush(self.ready, (item.used, rank, item.identity, item))

    def _prunable(self) -> int:
        survey = self._survey
        needed = {survey.layers[chain].cache_id for chain in survey.needed}
        sizes = {
            layer.cache_id: layer.size for layer in survey.layers.values() if layer.cache_id not in needed
        }
        images = sum(image.size for image in survey.images if not image.named)
        mounts = sum(mount.size for mount in survey.cache_mounts)
        mounts += sum(each.size for each in survey.repositories)
        return sum(sizes.values()) + images + sum(blob.size for blob in survey.blobs) + mounts
