"""A look at the whole store: what is there, what needs it, and when it was used last. Takes nothing away."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cache.layerfiles import short_name
from cache.oci.digest import ChainID
from cache.prunepolicy import FETCHED, Item
from cache.reach import ImageUse, images_in, needed_blobs
from cache.repositories import all_repositories

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cache.blobs import StoredBlob
    from cache.cachemounts_usage import CacheMount
    from cache.failedsteps import FailedStep
    from cache.layers import Layer, LayerStore
    from cache.repositories import GitRepository
    from cache.store import Store


@dataclass(frozen=True, slots=True)
class Survey:
    """What a store holds at one moment.

    `used` is in seconds since 1970, of a layer the newest of its own and those of all that stands on it;
    `seconds` is what it takes to have one again, where that is known. `needed` are the chains that named
    images, containers and the caller need, with all below, `elsewhere` those of them that are not here.
    `unusable` are those of which a power cut may have left anything. `remnants` are paths that belong to no
    layer. `records` are the keys of the records that speak of a chain, `dangling` those of a chain that is
    neither here nor known to be had. `tops` are the topmost layers that are here of what images and failed
    steps stand on, by image id, and by id.
    """

    layers: dict[ChainID, Layer]
    used: dict[ChainID, int]
    seconds: dict[ChainID, float]
    needed: frozenset[ChainID]
    elsewhere: frozenset[ChainID]
    unusable: frozenset[ChainID]
    images: tuple[ImageUse, ...]
    failed_steps: tuple[tuple[FailedStep, int], ...]
    tops: dict[str, ChainID | None]
    blobs: tuple[StoredBlob, ...]
    remnants: tuple[str, ...]
    records: dict[ChainID, list[str]]
    dangling: tuple[str, ...]
    cache_mounts: tuple[CacheMount, ...] = ()
    repositories: tuple[GitRepository, ...] = ()
    """Those that are not in use, if they were asked for."""

    def standing(self) -> Iterator[tuple[Item, ChainID | None]]:
        """Yield what stands on layers and is needed by nobody: images without a name, steps that failed, each
        with the layer.
        """
        for image in self.images:
            if not image.named:
                yield Item("image", image.image_id, image.size, image.used), self.tops[image.image_id]
        for step, size in self.failed_steps:
            yield Item("failed step", step.id, size, int(step.created)), self.tops[step.id]

    def item(self, chain_id: ChainID) -> Item:
        """Return a layer as what may be taken away."""
        size = self.layers[chain_id].size
        used = 0 if chain_id in self.unusable else self.used[chain_id]
        seconds = self.seconds.get(chain_id, size / FETCHED)
        return Item("layer", chain_id, size, used, seconds=seconds)


def survey(store: Store, keep: Iterable[ChainID] = (), *, cache_mounts: bool = False) -> Survey:
    """Look at `store`; `keep` names chains that are needed beside those of named images and of containers.

    At its `cache_mounts` only if told to: that is a walk over all their files.
    """
    store.layers.complete_index()
    layers = {layer.chain_id: layer for layer in store.layers.entries()}
    containers = store.containers.all()
    # A container's image, too, is needed without a name: a commit of the container begins with it.
    held = {container.image for container in containers}
    images = tuple(
        replace(image, named=image.named or image.image_id in held) for image in images_in(store.images)
    )
    roots = [image.chain_id for image in images if image.named and image.chain_id is not None]
    roots += [ChainID(each.chain_id) for each in containers if each.chain_id]
    failed = tuple((step, store.failed_steps.size(step)) for step in store.failed_steps.all())
    absent = store.absent.parents()
    reached = _with_below(layers, absent, [*roots, *keep])
    needed = reached & layers.keys()
    tops: dict[str, ChainID | None] = {
        image.image_id: _topmost(layers, absent, image.chain_id) for image in images
    }
    for step, _ in failed:
        tops[step.id] = _topmost(layers, absent, ChainID(step.parent) if step.parent else None)
    records, seconds, last = _records(store)
    for chain in layers.keys() & seconds.keys() & absent.keys():
        seconds[chain] = min(seconds[chain], layers[chain].size / FETCHED)
    for image in images:
        if image.chain_id is not None:
            last[image.chain_id] = max(last.get(image.chain_id, 0), image.used)
    used = _times(store, layers, {chain: _topmost(layers, absent, chain) for chain in last}, last)
    wanted = needed_blobs(
        store.blobs,
        store.database,
        [image.image_id for image in images if image.named],
        [layers[chain_id].diff_id for chain_id in needed],
    )
    return Survey(
        layers,
        used,
        seconds,
        needed,
        reached - needed,
        _unusable(store.layers, layers),
        images,
        failed,
        tops,
        tuple(blob for blob in store.blobs.all() if blob.digest not in wanted),
        tuple(_remnants(store.layers, layers)),
        records,
        tuple(
            key
            for chain, keys in records.items()
            if chain and chain not in layers and not _is_known(layers, absent, chain)
            for key in keys
        ),
        tuple(_idle_mounts(store)) if cache_mounts else (),
        tuple(all_repositories(store.root)),
    )


def _idle_mounts(store: Store) -> Iterable[CacheMount]:
    from cache.cachemounts_usage import all_mounts

    return (mount for mount in all_mounts(store.cache_mounts) if not mount.in_use)


def depths(layers: dict[ChainID, Layer]) -> dict[ChainID, int]:
    """Return how many layers lie below each; those whose parent is missing are at the bottom."""
    found: dict[ChainID, int] = {}
    for chain_id in layers:
        path = []
        current: ChainID | None = chain_id
        while current is not None and current in layers and current not in found:
            path.append(current)
            current = layers[current].parent
        depth = -1 if current is None or current not in found else found[current]
        for each in reversed(path):
            depth += 1
            found[each] = depth
    return found


def _with_below(
    layers: dict[ChainID, Layer], absent: dict[ChainID, ChainID | None], chains: Iterable[ChainID]
) -> frozenset[ChainID]:
    """Return `chains` with all below, as far as layers are here or known to be had."""
    seen: set[ChainID] = set()
    for chain_id in chains:
        current: ChainID | None = chain_id
        while current is not None and current not in seen and (current in layers or current in absent):
            seen.add(current)
            current = layers[current].parent if current in layers else absent[current]
    return frozenset(seen)


def _topmost(
    layers: dict[ChainID, Layer], absent: dict[ChainID, ChainID | None], chain_id: ChainID | None
) -> ChainID | None:
    """Return the topmost layer of a chain that is here, None if none is."""
    while chain_id is not None and chain_id not in layers:
        chain_id = absent.get(chain_id)
    return chain_id


def _is_known(layers: dict[ChainID, Layer], absent: dict[ChainID, ChainID | None], chain_id: ChainID) -> bool:
    """Return whether each layer of a chain is here, or known to be had."""
    current: ChainID | None = chain_id
    while current is not None and current not in layers:
        if current not in absent:
            return False
        current = absent[current]
    return True


def _records(store: Store) -> tuple[dict[ChainID, list[str]], dict[ChainID, float], dict[ChainID, int]]:
    """Return by chain the keys of the records, what the longest of these steps took, and when any was used
    last.
    """
    keys: dict[ChainID, list[str]] = {}
    seconds: dict[ChainID, float] = {}
    used: dict[ChainID, int] = {}
    last_use = store.last_use.all()
    for key, name, time, took in store.database.read("SELECT key, chain_id, created, seconds FROM records"):
        chain = ChainID(name)
        keys.setdefault(chain, []).append(key)
        seconds[chain] = max(seconds.get(chain, 0.0), took)
        used[chain] = max(used.get(chain, 0), time, last_use.get(key, 0))
    return keys, seconds, used


def _times(
    store: Store,
    layers: dict[ChainID, Layer],
    tops: dict[ChainID, ChainID | None],
    last: dict[ChainID, int],
) -> dict[ChainID, int]:
    """Return when each layer was used last; `last` says when what stands on a chain was, `tops` which layer
    of the chain is here.
    """
    created = store.layers.index.created()
    last_use = store.last_use.all()
    used = {chain: max(created.get(chain, 0), last_use.get(chain, 0)) for chain in layers}
    for chain, time in last.items():
        top = tops[chain]
        if top is not None:
            used[top] = max(used[top], time)
    depth = depths(layers)
    for chain in sorted(layers, key=depth.__getitem__, reverse=True):
        parent = layers[chain].parent
        if parent in used:
            used[parent] = max(used[parent], used[chain])
    return used


def _unusable(store: LayerStore, layers: dict[ChainID, Layer]) -> frozenset[ChainID]:
    """Return the layers that `LayerStore.get` would not give out: not to be trusted, or with one such
    below."""
    depth = depths(layers)
    found: set[ChainID] = set()
    for chain in sorted(layers, key=depth.__getitem__):
        layer = layers[chain]
        broken_below = layer.parent is not None and (layer.parent not in layers or layer.parent in found)
        if broken_below or not store.is_whole(layer):
            found.add(chain)
    return frozenset(found)


def _remnants(store: LayerStore, layers: dict[ChainID, Layer]) -> Iterable[str]:
    """Yield what is in overlay2/ and layerdb/ and belongs to no layer."""
    chains = {chain.hex for chain in layers}
    cache_ids = {layer.cache_id for layer in layers.values()}
    shorts = {short_name(cache_id) for cache_id in cache_ids}
    for directory, known in (
        (store.layerdb, chains),
        (store.overlay2, cache_ids | {"l"}),
        (store.overlay2 + "/l", shorts),
    ):
        for name in sorted(os.listdir(directory)):
            if name not in known:
                yield f"{directory}/{name}"
