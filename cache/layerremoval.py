"""Taking layers out of the store: each vanishes in one rename, and only if nobody stands on it or uses it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from cache.disk import storing
from cache.errors import StoreError
from cache.layerfiles import short_name
from cache.locks import is_at, try_flock
from cache.oci.digest import ChainID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection

    from cache.layers import LayerStore
    from cache.scratch import Staging


@contextlib.contextmanager
def exclusively(layers: LayerStore) -> Iterator[None]:
    """Keep publishing away: what layerdb/ says of overlay2/ stays true meanwhile."""
    fd = os.open(layers.layerdb, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def remove(layers: LayerStore, chain_id: ChainID) -> bool:
    """See LayerStore.remove."""
    with storing("removing a layer"):
        with exclusively(layers):
            entries = list(layers.entries())
            if not any(layer.chain_id == chain_id for layer in entries):
                return False
            if any(layer.parent == chain_id for layer in entries):
                raise StoreError(f"{chain_id} has layers on it", code="store/in-use")
            taken = take_entry(layers, chain_id)
            if taken is None:
                raise StoreError(
                    f"{chain_id} is in use", hint="a build or container uses it", code="store/in-use"
                )
            gone = [taken]
            cache_id = next(layer.cache_id for layer in entries if layer.chain_id == chain_id)
            if not any(layer.cache_id == cache_id and layer.chain_id != chain_id for layer in entries):
                gone += take_diff(layers, cache_id)
        for staging in gone:
            staging.discard()
    forget(layers, [chain_id])
    return True


def take_entry(layers: LayerStore, chain_id: ChainID) -> Staging | None:
    """Move the entry of a chain out of layerdb/. None if a process holds it (`cache.pins`), or it is gone."""
    path = f"{layers.layerdb}/{chain_id.hex}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not try_flock(fd) or not is_at(fd, path):
            return None
        return layers.scratch.take_away(path)
    finally:
        os.close(fd)


def take_diff(layers: LayerStore, cache_id: str) -> list[Staging]:
    """Move a changeset that no entry speaks of any more out of overlay2/."""
    path = f"{layers.overlay2}/{cache_id}"
    gone = []
    with layers.scratch.lock("diff-" + cache_id):
        with contextlib.suppress(FileNotFoundError):
            gone.append(layers.scratch.take_away(path))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{layers.overlay2}/l/{short_name(cache_id)}")
    return gone


def forget(layers: LayerStore, chain_ids: list[ChainID]) -> None:
    """Drop layers from the index, for good: a row that came back after a power cut would vouch for what
    replaced them."""

    def work(connection: Connection) -> None:
        layers.index.delete(connection, chain_ids)
        connection.executemany("DELETE FROM last_use WHERE id = ?", [(c,) for c in chain_ids])

    layers.index.database.write(work, durable=True)
