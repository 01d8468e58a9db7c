"""Which of the things that nothing needs go, and in which order: pure, but for the question who holds one."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import TYPE_CHECKING

from cache.oci.digest import ChainID
from cache.prunepolicy import COMPRESSED, FETCHED, Item, worth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cache.prunepolicy import Kind, Policy
    from cache.survey import Survey

_RANKS: dict[Kind, int] = {"image": 0, "failed step": 0, "layer": 1}
"""Of things worth the same and used at the same time, what stands on others goes first."""


def choose(
    survey: Survey, policies: Sequence[Policy], now: int, is_held: Callable[[Item], bool], free: int
) -> tuple[list[Item], int]:
    """Return the items to take away, in an order in which each can go, and the bytes of all that is not
    needed. Each policy is met in turn; `free` bytes of the disk are free now.

    Remnants go first, whatever the policies say, and layers that nobody can use. `is_held` is asked for each
    item about to go.
    """
    chooser = _Chooser(survey, now, is_held)
    prunable = sum(chooser.left.values())
    chosen = [Item("remnant", path) for path in survey.remnants]
    chosen += [Item("record", key) for key in survey.dangling]
    chosen += chooser.unusable()
    for policy in policies:
        chosen += chooser.meet(policy, free)
        chosen += chooser.unusable()
    return chosen, prunable


class _Chooser:
    """What can go next: what nothing stands on."""

    def __init__(self, survey: Survey, now: int, is_held: Callable[[Item], bool]) -> None:
        self._survey = survey
        self._now = now
        self._is_held = is_held
        self._blockers: dict[ChainID, int] = {}
        self._sharers: dict[str, int] = {}
        self._tops: dict[tuple[Kind, str], ChainID | None] = {}
        self._ready: dict[tuple[Kind, str], Item] = {}
        self.left = _prunable(survey)
        self.freed = 0
        for layer in survey.layers.values():
            self._sharers[layer.cache_id] = self._sharers.get(layer.cache_id, 0) + 1
            self._block(layer.parent)
        for item, top in survey.standing():
            self._tops[item.kind, item.identity] = top
            self._block(top)
            self._add(item)
        for item in _free_standing(survey):
            self._add(item)
        for chain_id in survey.layers:
            self._offer(chain_id)

    def meet(self, policy: Policy, free: int) -> Iterable[Item]:
        """Return what must go for a policy, least worth first."""
        return self._sweep(
            lambda item: policy.is_about(item, self._now),
            lambda: policy.is_met(sum(self.left[kind] for kind in policy.kinds), free + self.freed),
        )

    def unusable(self) -> Iterable[Item]:
        """Return the layers that nobody can use, as far as nothing stands on them."""
        return self._sweep(
            lambda item: item.kind == "layer" and item.identity in self._survey.unusable, lambda: False
        )

    def _sweep(self, may_go: Callable[[Item], bool], enough: Callable[[], bool]) -> Iterable[Item]:
        heap = [self._entry(item) for item in self._ready.values() if may_go(item)]
        heapq.heapify(heap)
        gone: list[Item] = []
        while heap and not enough():
            item = heapq.heappop(heap)[-1]
            del self._ready[item.kind, item.identity]
            if self._is_held(item):  # and all that it stands on stays with it
                continue
            gone += self._take(item)
            below = self._below(item)
            if below is not None:
                self._blockers[below] -= 1
                offered = self._offer(below)
                if offered is not None and may_go(offered):
                    heapq.heappush(heap, self._entry(offered))
        return gone

    def _entry(self, item: Item) -> tuple[float, int, int, str, Item]:
        return worth(item, self._now), item.used, _RANKS.get(item.kind, 2), item.identity, item

    def _take(self, item: Item) -> list[Item]:
        """Let `item` go: return it, sized, with the records that go with it."""
        size = item.size
        records: list[Item] = []
        if item.kind == "layer":
            chain_id = ChainID(item.identity)
            layer = self._survey.layers[chain_id]
            self._sharers[layer.cache_id] -= 1
            size = 0 if self._sharers[layer.cache_id] else layer.size
            records = [Item("record", key, 0, item.used) for key in self._survey.records.get(chain_id, ())]
        self.left[item.kind] -= size
        self.freed += size
        return [replace(item, size=size), *records]

    def _below(self, item: Item) -> ChainID | None:
        if item.kind == "layer":
            below = self._survey.layers[ChainID(item.identity)].parent
            return below if below in self._survey.layers else None
        return self._tops.get((item.kind, item.identity))

    def _block(self, chain_id: ChainID | None) -> None:
        if chain_id is not None:
            self._blockers[chain_id] = self._blockers.get(chain_id, 0) + 1

    def _offer(self, chain_id: ChainID) -> Item | None:
        """Let a layer go, unless it is needed, or something stands on it."""
        if chain_id in self._survey.needed or self._blockers.get(chain_id, 0):
            return None
        return self._add(self._survey.item(chain_id))

    def _add(self, item: Item) -> Item:
        self._ready[item.kind, item.identity] = item
        return item


def _free_standing(survey: Survey) -> Iterable[Item]:
    for blob in survey.blobs:
        yield Item("blob", blob.digest, blob.size, blob.used, seconds=blob.size / COMPRESSED)
    for each in survey.repositories:
        yield Item("repository", each.name, each.size, each.used, each.title, each.size / FETCHED)
    for mount in survey.cache_mounts:
        yield Item("cache mount", mount.name, mount.size, mount.used, mount.id, mount.size / FETCHED)


def _prunable(survey: Survey) -> dict[Kind, int]:
    needed = {survey.layers[chain].cache_id for chain in survey.needed}
    changesets = {
        layer.cache_id: layer.size for layer in survey.layers.values() if layer.cache_id not in needed
    }
    standing: dict[Kind, int] = {"image": 0, "failed step": 0}
    for item, _ in survey.standing():
        standing[item.kind] += item.size
    return {
        **standing,
        "layer": sum(changesets.values()),
        "blob": sum(blob.size for blob in survey.blobs),
        "repository": sum(each.size for each in survey.repositories),
        "cache mount": sum(mount.size for mount in survey.cache_mounts),
    }
