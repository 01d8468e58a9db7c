"""Taking layers out of the store: each vanishes in one rename, and only if nobody stands on it or uses it."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from cache.disk import storing
from cache.errors import StoreError
from cache.layerfiles import short_name
from cache.locks import flocked, lock_existing
from cache.oci.digest import ChainID

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from sqlite3 import Connection

    from cache.layers import LayerStore
    from cache.scratch import Scratch, Staging


def exclusively(layers: LayerStore) -> AbstractContextManager[None]:
    """Keep publishing and tagging away: what layerdb/ says of overlay2/, and imagedb/ of layerdb/, stays
    true."""
    return flocked(layers.layerdb, exclusive=True)


def remove(layers: LayerStore, chain_id: ChainID) -> bool:
    """See LayerStore.remove."""
    gone: list[Staging] = []
    with storing("removing a layer"):
        with exclusively(layers):
            entries = {layer.chain_id: layer for layer in layers.entries()}
            layer = entries.pop(chain_id, None)
            if layer is None:
                return False
            if any(other.parent == chain_id for other in entries.values()):
                raise StoreError(f"{chain_id} has layers on it", code="store/in-use")
            fd = lock_entry(layers, chain_id)
            if fd is None:
                raise StoreError(f"{chain_id} is used by a build or container", code="store/in-use")
            forget(layers, [chain_id], [])
            gone += take_entry(layers, chain_id, fd)
            if not any(other.cache_id == layer.cache_id for other in entries.values()):
                gone += take_diff(layers, layer.cache_id)
        for staging in gone:
            staging.discard()
        layers.scratch.settle()
    return True


def lock_entry(layers: LayerStore, chain_id: ChainID) -> int | None:
    """Return a descriptor with the lock of a chain's entry; None if a process holds it (`cache.pins`) or
    it is gone."""
    return lock_existing(f"{layers.layerdb}/{chain_id.hex}")


def take_entry(layers: LayerStore, chain_id: ChainID, fd: int) -> list[Staging]:
    """Move the entry of a chain, locked by `fd` (ours from now on), out of layerdb/."""
    return vanish(layers.scratch, f"{layers.layerdb}/{chain_id.hex}", "diff", fd)


def take_diff(layers: LayerStore, cache_id: str) -> list[Staging]:
    """Move a changeset that no entry speaks of any more out of overlay2/."""
    gone = vanish(layers.scratch, f"{layers.overlay2}/{cache_id}", "committed")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{layers.overlay2}/l/{short_name(cache_id)}")
    return gone


def vanish(scratch: Scratch, path: str, mark: str, fd: int = -1) -> list[Staging]:
    """Move `path` to tmp/ in one rename; `fd` may hold its lock already. Returns what is to be discarded
    then.

    A disk that is full may refuse even that. Then it is removed where it is, after the file `mark`, without
    which it is not whole for anyone.
    """
    if os.path.islink(path):
        os.unlink(path)
        return []
    try:
        return [scratch.take_away(path, fd)]
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    from cache.removal import remove_tree

    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(f"{path}/{mark}")
    remove_tree(path)
    return []


def forget(layers: LayerStore, chain_ids: Iterable[ChainID], keys: Iterable[str]) -> None:
    """Drop layers and records from the database, for good: a row of `layers` that came back after a power
    cut would vouch for what has taken the layer's place."""
    chains: list[tuple[str]] = [(chain_id,) for chain_id in chain_ids]
    records = [(key,) for key in keys]

    def work(connection: Connection) -> None:
        connection.executemany("DELETE FROM layers WHERE chain_id = ?", chains)
        connection.executemany("DELETE FROM records WHERE key = ?", records)
        connection.executemany("DELETE FROM last_use WHERE id = ?", chains + records)

    layers.index.database.write(work, durable=True)
