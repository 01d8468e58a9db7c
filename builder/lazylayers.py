"""Layers that the store knows and does not have, fetched when somebody reads them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from builder.bases.arrivals import RemoteArrival
from builder.bases.ingest import ingest
from builder.bases.transfers import Transfers
from cache.absent import AbsentLayer
from cache.errors import DigestMismatch, LayerUnavailable, RegistryError
from cache.remote import RemoteError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from builder.events import Emit
    from cache.absent import Origin
    from cache.errors import CacheError
    from cache.layers import Layer
    from cache.oci.digest import ChainID
    from cache.oci.spec import Descriptor
    from cache.registry.client import RegistryClient
    from cache.remote import RemoteCache
    from cache.store import Store

_AT_ONCE = 3
"""Downloads at a time, as Docker's."""


class LazyLayers:
    """Fetches for one store. Give its `fetch` to the store; close it."""

    def __init__(
        self,
        store: Store,
        emit: Emit,
        connect: Callable[[], RegistryClient],
        open_cache: Callable[[str], RemoteCache],
    ) -> None:
        """`connect` opens a registry client, `open_cache` a shared cache by the name that an origin has for
        it. Raises of `open_cache`: CacheError.
        """
        self.emit = emit
        self._store = store
        self._connect = connect
        self._open_cache = open_cache
        self._client: RegistryClient | None = None
        self._caches: dict[str, RemoteCache] = {}
        self._opening = threading.Lock()
        self._fetching = threading.RLock()

    def fetch(self, chain_id: ChainID) -> None:
        """Get the layers of a chain that are not here; nothing happens if they cannot be had from anywhere.

        What is fetched is verified against the DiffIDs. Raises LayerUnavailable if a place that was noted
        does not have one (any more), StoreError.
        """
        with self._fetching:
            stack = self._store.stack(chain_id)
            if stack is None or self._store.layers.get(chain_id) is not None:
                return
            supply = _Supply(self, stack)
            try:
                ingest(
                    self._store, self.emit, "the base", [each.diff_id for each in stack], supply, repair=False
                )
            except (RegistryError, RemoteError, DigestMismatch) as error:
                raise self._unavailable(supply, error) from None

    def close(self) -> None:
        """Stop all transfers, and let go of connections."""
        self.abandon()

    def abandon(self) -> None:
        """Make all transfers end with an exception, soon. What comes next begins with new connections."""
        with self._opening:
            client, self._client = self._client, None
            caches, self._caches = tuple(self._caches.values()), {}
        if client is not None:
            client.stop()
            client.close()
        for cache in caches:
            cache.stop()
            cache.close()

    def _unavailable(self, supply: _Supply, error: CacheError) -> LayerUnavailable:
        failed = supply.at
        if failed is None:
            return LayerUnavailable(f"layers cannot be fetched: {error.message}", hint=error.hint)
        gone = isinstance(error, DigestMismatch) or error.code == "registry/not-found"
        self._store.absent.doubt(failed.chain_id, gone=gone)
        return LayerUnavailable(
            f"the layer {failed.diff_id} cannot be fetched: {error.message}", hint=error.hint
        )

    def blob(self, origins: Sequence[Origin]) -> Iterator[bytes]:
        """Stream a layer's blob, verified, from the first of `origins` that has it. Raises RegistryError,
        RemoteError, DigestMismatch.
        """
        for left, origin in zip(reversed(range(len(origins))), origins, strict=True):
            sent = False
            try:
                for chunk in self._from(origin):
                    sent = True
                    yield chunk
                return
            except (RegistryError, RemoteError):
                if sent or not left:
                    raise

    def _from(self, origin: Origin) -> Iterator[bytes]:
        if origin.kind == "registry":
            from cache.oci.reference import Reference

            return self._registry().blob(Reference.parse(origin.place), origin.blob)
        return _verified(self._cache(origin.place).blob(origin.blob), origin.blob)

    def _registry(self) -> RegistryClient:
        with self._opening:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _cache(self, place: str) -> RemoteCache:
        with self._opening:
            if place not in self._caches:
                self._caches[place] = self._open_cache(place)
            return self._caches[place]


class _Supply:
    """The `Supply` of a stack of layers, each of which comes from where it is."""

    def __init__(self, lazy: LazyLayers, stack: Sequence[Layer | AbsentLayer]) -> None:
        self.at: AbsentLayer | None = None
        self.tries = max(2, *(len(each.origins) for each in stack if isinstance(each, AbsentLayer)))
        self._lazy = lazy
        self._stack = stack
        self._transfers = Transfers(lazy.emit)
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: dict[int, RemoteArrival] = {}
        self._asked: dict[int, int] = {}
        self._under_way: list[tuple[RemoteArrival, Future[None]]] = []

    def expect(self, indices: Sequence[int]) -> None:
        for index in indices:
            self._ahead[index] = self._start(index)

    def layer(self, index: int) -> RemoteArrival:
        layer = self._stack[index]
        self.at = layer if isinstance(layer, AbsentLayer) else None
        return self._ahead.pop(index, None) or self._start(index)

    def received(self, index: int) -> None:
        self._transfers.finish(self._transfer(index))

    def close(self) -> None:
        """Wait for the threads. If some are still at it, something failed: they are stopped first."""
        busy = [future for _, future in self._under_way if not future.done()]
        if busy:
            for future in busy:
                future.cancel()
            self._lazy.abandon()
        if self._pool is not None:
            self._pool.shutdown()
        for arrival, _ in self._under_way:
            arrival.discard()

    def _start(self, index: int) -> RemoteArrival:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch")
        origins = self._origins(index)
        blob = origins[0].blob
        # Only the same blob can go on where another place failed; one that is damaged is asked for elsewhere.
        same = [each for each in origins if each.blob.digest == blob.digest]
        lazy, place = self._lazy, origins[0].place
        arrival = RemoteArrival(lazy._store, blob, lambda: lazy.blob(same), self._transfers.poll)
        self._under_way.append((arrival, self._pool.submit(arrival.run)))
        label = f"{place} layer {index + 1} of {len(self._stack)}"
        self._transfers.start(self._transfer(index), label, blob.size, lambda: arrival.done)
        return arrival

    def _origins(self, index: int) -> tuple[Origin, ...]:
        """Return where to get a layer; asked again, another place comes first."""
        layer = self._stack[index]
        assert isinstance(layer, AbsentLayer)
        turn = self._asked.get(index, 0)
        self._asked[index] = turn + 1
        turn %= len(layer.origins)
        return (*layer.origins[turn:], *layer.origins[:turn])

    def _transfer(self, index: int) -> str:
        return f"fetch {index} {self._stack[index].chain_id}"


def _verified(chunks: Iterator[bytes], blob: Descriptor) -> Iterator[bytes]:
    """Yield `chunks`, which must be `blob`. Raises DigestMismatch at the end, or when there are too many."""
    import hashlib

    algorithm, count = blob.digest.algorithm, 0
    digest = hashlib.new(algorithm)
    for chunk in chunks:
        count += len(chunk)
        if count > blob.size:
            break
        digest.update(chunk)
        yield chunk
    if count != blob.size or digest.hexdigest() != blob.digest.hex:
        raise DigestMismatch(f"blob {blob.digest} of {blob.size} bytes arrives damaged")
