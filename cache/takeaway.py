"""Taking what a prune has chosen out of the store, so that a kill at any instant leaves it sound.

The index forgets a layer first, for good; then each thing vanishes in one rename; then, while builds go on,
it is removed.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from cache.cachemounts_usage import is_in_use, lock_alone
from cache.errors import StoreFull
from cache.layerremoval import forget, lock_entry, take_diff, take_entry, vanish
from cache.locks import lock_existing
from cache.oci.digest import ChainID, Digest
from cache.repositories import path_of

if TYPE_CHECKING:
    from sqlite3 import Connection

    from cache.prunepolicy import Item
    from cache.scratch import Staging
    from cache.store import Store
    from cache.survey import Survey

UNUSED_DAYS = 30
"""Memos, receipts and file digests that were not asked for as long go with every prune: they take room,
too."""
_LOCKED = ("layer", "image", "blob", "cache mount", "repository", "failed step")
"""What a process may hold, by its lock."""
_BATCH = 200
"""Layers that are locked at once: well below the usual limit of open files."""


class Removal:
    """One prune's removals."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gone: list[Staging] = []
        self._late: tuple[list[ChainID], list[str]] = ([], [])

    def is_held(self, item: Item) -> bool:
        """True if a process holds what `item` names, or it is gone: asked before it is chosen."""
        if item.kind == "cache mount":
            return is_in_use(self._store.cache_mounts, item.identity)
        if item.kind not in _LOCKED:
            return False
        fd = self._lock(item)
        if fd is None:
            return True
        os.close(fd)
        return False

    def take(self, items: list[Item], survey: Survey) -> list[Item]:
        """Take `items` out, in their order, and return those that went: what came into use meanwhile
        stays."""
        staying = _Staying(survey)
        taken: list[Item] = []
        for start in range(0, len(items), _BATCH):
            taken += self._take_batch(items[start : start + _BATCH], staying)
        return taken

    def finish(self) -> None:
        """Remove what was taken out. Needs no lock: nobody can see it any more."""
        while self._gone:
            self._gone.pop().discard()
        self._store.scratch.settle()
        chains, keys = self._late
        if chains or keys:
            forget(self._store.layers, chains, keys)

    def tidy(self, survey: Survey) -> None:
        """Drop what nobody has asked the database for in a long time, but not where layers can be had that
        are needed; and indexes of images that are gone.
        """
        self._drop_indexes()
        self._store.failed_steps.remove_strangers()
        self._store.absent.touch(survey.elsewhere)
        limit = int(time.time()) - UNUSED_DAYS * 86400

        def work(connection: Connection) -> None:
            for table in ("memo", "receipts", "stats"):
                connection.execute(f"DELETE FROM {table} WHERE used < ?", (limit,))

        self._store.database.write(work)

    def _drop_indexes(self) -> None:
        images = self._store.images
        named = frozenset(images.names().values())
        for index in images.indexes.all():
            if index in named or all(map(images.exists, images.indexes.images_of(index))):
                continue
            fd = lock_existing(images.indexes.path(index))
            if fd is not None:
                images.indexes.remove(index)
                os.close(fd)

    def _take_batch(self, items: list[Item], staying: _Staying) -> list[Item]:
        taken: list[Item] = []
        locks: dict[str, int] = {}
        try:
            for item in items:
                if staying.has(item):
                    continue
                if item.kind in _LOCKED:
                    fd = self._lock(item)
                    if fd is None:
                        staying.add(item)
                        continue
                    locks[item.identity] = fd
                taken.append(item)
            self._forget(taken)
            for item in taken:
                self._take(item, locks, staying)
        finally:
            for fd in locks.values():
                os.close(fd)
        return taken

    def _forget(self, items: list[Item]) -> None:
        chains = [ChainID(item.identity) for item in items if item.kind == "layer"]
        keys = [item.identity for item in items if item.kind == "record"]
        if not chains and not keys:
            return
        try:
            forget(self._store.layers, chains, keys)
        except StoreFull:  # the very reason to prune: once there is room again, then
            self._late[0].extend(chains)
            self._late[1].extend(keys)

    def _take(self, item: Item, locks: dict[str, int], staying: _Staying) -> None:
        layers = self._store.layers
        if item.kind == "layer":
            chain_id = ChainID(item.identity)
            self._gone += take_entry(layers, chain_id, locks.pop(item.identity))
            if staying.last_with_changeset(chain_id):
                self._gone += take_diff(layers, staying.cache_id(chain_id))
        elif item.kind == "image":
            self._store.images.remove(Digest(item.identity))
        elif item.kind == "blob":
            self._store.blobs.remove(Digest(item.identity))
        elif item.kind == "cache mount":
            path = f"{self._store.cache_mounts.path}/{item.identity}"
            self._gone.append(layers.scratch.take_away(path, locks.pop(item.identity)))
        elif item.kind == "repository":
            path = path_of(self._store.root, item.identity)
            self._gone.append(layers.scratch.take_away(path, locks.pop(item.identity)))
        elif item.kind == "failed step":
            path = self._store.failed_steps.path_of(item.identity)
            self._gone.append(layers.scratch.take_away(path, locks.pop(item.identity)))
        elif item.kind == "remnant":
            self._gone += vanish(layers.scratch, item.identity, "committed")

    def _lock(self, item: Item) -> int | None:
        if item.kind == "layer":
            return lock_entry(self._store.layers, ChainID(item.identity))
        if item.kind == "cache mount":
            return lock_alone(self._store.cache_mounts, item.identity)
        if item.kind == "repository":
            return lock_existing(path_of(self._store.root, item.identity))
        if item.kind == "failed step":
            return lock_existing(self._store.failed_steps.path_of(item.identity))
        if item.kind == "image":
            return lock_existing(self._store.images.path(Digest(item.identity)))
        return lock_existing(self._store.blobs.path_of(Digest(item.identity)))


class _Staying:
    """What cannot go after all, since something that stands on it came into use."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._chains: set[str] = set()
        self._keys: set[str] = set()
        self._sharers: dict[str, int] = {}
        for layer in survey.layers.values():
            self._sharers[layer.cache_id] = self._sharers.get(layer.cache_id, 0) + 1

    def has(self, item: Item) -> bool:
        if item.kind == "layer" and item.identity in self._chains:
            self.add(item)
            return True
        return item.kind == "record" and item.identity in self._keys

    def add(self, item: Item) -> None:
        if item.kind in ("image", "failed step"):
            self._chains.add(self._survey.tops.get(item.identity) or "")
        elif item.kind == "layer":
            chain_id = ChainID(item.identity)
            self._chains.add(self._survey.layers[chain_id].parent or "")
            self._keys.update(self._survey.records.get(chain_id, ()))

    def cache_id(self, chain_id: ChainID) -> str:
        return self._survey.layers[chain_id].cache_id

    def last_with_changeset(self, chain_id: ChainID) -> bool:
        """Count `chain_id` as gone. True if no other chain has its changeset."""
        cache_id = self.cache_id(chain_id)
        self._sharers[cache_id] -= 1
        return self._sharers[cache_id] == 0
