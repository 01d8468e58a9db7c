"""What takes the room in the store, and what needs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cache.oci.digest import ChainID
from cache.prunepolicy import ALL_KINDS, Item, Policy

if TYPE_CHECKING:
    from cache.store import Store
    from cache.survey import Survey


_ALL = Policy(kinds=ALL_KINDS)


@dataclass(frozen=True, slots=True)
class Entry:
    """A thing, and what needs it as a person says it: an image's name, a container; "" if a prune may take
    it."""

    item: Item
    needed_by: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a store has: what is needed first, then what is worth most. `records` is how many steps it knows;
    `disk` and `free` are bytes of the disk."""

    entries: tuple[Entry, ...]
    records: int
    disk: int
    free: int


def usage(store: Store, now: int) -> Usage:
    """Look at `store`, at `now` in seconds since 1970. A changeset that several layers have counts once."""
    from builder.prunepolicies import disk_size
    from cache.gc import free_bytes
    from cache.layerremoval import exclusively
    from cache.prunechoice import choose
    from cache.survey import survey
    from cache.takeaway import Removal

    with exclusively(store.layers):
        found = survey(store, cache_mounts=True)
        unneeded, _ = choose(found, [_ALL], now, lambda item: False, 0)
        free, _ = choose(found, [_ALL], now, Removal(store).is_held, 0)
    going = {(item.kind, item.identity) for item in free}
    entries = _staying(store, found)
    for item in reversed(unneeded):
        if item.kind in ALL_KINDS:
            entries.append(Entry(item, "" if (item.kind, item.identity) in going else "a running build"))
    records = sum(map(len, found.records.values()))
    return Usage(tuple(entries), records, disk_size(store.root), free_bytes(store.root))


def _staying(store: Store, found: Survey) -> list[Entry]:
    names = _names(store)
    by = _needing(store, found, names)
    counted: set[str] = set()
    entries = []
    for image in found.images:
        if image.named:
            who = _several(names.get(image.image_id, []))
            entries.append(Entry(Item("image", image.image_id, image.size, image.used), who))
    for chain_id in sorted(found.needed, key=lambda chain: (by[chain], found.layers[chain].size)):
        layer = found.layers[chain_id]
        item = found.item(chain_id)
        entries.append(Entry(replace(item, size=0) if layer.cache_id in counted else item, by[chain_id]))
        counted.add(layer.cache_id)
    idle = {blob.digest for blob in found.blobs}
    entries += [
        Entry(Item("blob", blob.digest, blob.size, blob.used), "an image")
        for blob in store.blobs.all()
        if blob.digest not in idle
    ]
    return entries


def _names(store: Store) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, image in store.images.names().items():
        for each in (image, *store.images.indexes.images_of(image)):
            names.setdefault(each, []).append(name)
    return names


def _needing(store: Store, found: Survey, names: dict[str, list[str]]) -> dict[ChainID, str]:
    """Return who needs each needed layer; `names` are those of images."""
    users: dict[ChainID, list[str]] = {chain: [] for chain in found.needed}
    roots = [
        (found.tops[image.image_id], names.get(image.image_id, [])) for image in found.images if image.named
    ]
    for each in store.containers.all():
        if each.chain_id:
            roots.append((ChainID(each.chain_id), [f"container {each.id[:12]}"]))
    for top, who in roots:
        chain = top
        while chain is not None and chain in users:
            users[chain] += who
            chain = found.layers[chain].parent
    return {chain: _several(each) for chain, each in users.items()}


def _several(names: list[str]) -> str:
    from builder.lookup import familiar

    first = familiar(names[0]) if names else "a container"
    return first if len(names) < 2 else f"{first} and {len(names) - 1} more"
