"""The layers of an image in a registry, fetched side by side, ahead of their unpacking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.bases.arrivals import RemoteArrival
from builder.bases.transfers import Transfers

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from builder.bases.base import Surroundings
    from cache.oci.reference import Reference
    from cache.oci.spec import Descriptor
    from cache.registry.client import RegistryClient

_AT_ONCE = 3
"""Downloads at a time, as Docker's: more take nothing but turns on the same line."""


class Downloads:
    """A `Supply` of layers that downloads those which are expected."""

    tries = 3

    def __init__(
        self,
        around: Surroundings,
        client: RegistryClient,
        reference: Reference,
        layers: Sequence[Descriptor],
        abandon: Callable[[], None],
    ) -> None:
        """`abandon` makes all transfers of `client` end with an exception, soon."""
        self._store = around.store
        self._client = client
        self._reference = reference
        self._layers = layers
        self._abandon = abandon
        self._transfers = Transfers(around.emit)
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: dict[int, RemoteArrival] = {}
        self._under_way: dict[int, tuple[RemoteArrival, Future[None]]] = {}

    def expect(self, indices: Sequence[int]) -> None:
        for index in indices:
            self._start(index)

    def layer(self, index: int) -> RemoteArrival:
        return self._ahead.pop(index, None) or self._start(index, ahead=False)

    def received(self, index: int) -> None:
        self._transfers.finish(self._transfer(index))

    def close(self) -> None:
        """Wait for the threads. If some are still at it, something failed: they are stopped first."""
        busy = [future for _, future in self._under_way.values() if not future.done()]
        if busy:
            for future in busy:
                future.cancel()
            self._abandon()
        if self._pool is not None:
            self._pool.shutdown()
        for arrival, _ in self._under_way.values():
            arrival.discard()

    def _start(self, index: int, *, ahead: bool = True) -> RemoteArrival:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pull")
        layer = self._layers[index]
        arrival = RemoteArrival(
            self._store,
            layer,
            lambda: self._client.blob(self._reference, layer),
            self._transfers.poll,
        )
        self._under_way[index] = (arrival, self._pool.submit(arrival.run))
        if ahead:
            self._ahead[index] = arrival
        label = f"{self._reference.familiar} layer {index + 1} of {len(self._layers)}"
        self._transfers.start(self._transfer(index), label, layer.size, lambda: arrival.done)
        return arrival

    def _transfer(self, index: int) -> str:
        return f"pull {index} {self._layers[index].digest}"
