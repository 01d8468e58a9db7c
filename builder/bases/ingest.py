"""Layers from elsewhere into the store: unpacked in order while they come in, verified, published.

A layer is unpacked onto the ones below it, which its tar may speak of (a parent directory that is a symlink
there, a hard link to a file there). So the unpacking goes from the bottom up, and what runs in parallel is
the fetching.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from builder.events import Notice
from cache.blobs import LayerBlob
from cache.changeset import unpack, write_tar
from cache.decompression import decompress
from cache.errors import DigestMismatch, FormatError
from cache.oci.digest import ChainID

if TYPE_CHECKING:
    from builder.bases.arrivals import Arrival
    from builder.events import Emit
    from cache.changeset import Changeset
    from cache.oci.digest import DiffID
    from cache.scratch import Staging
    from cache.store import Store


class Supply(Protocol):
    """Where the layers of one image come from."""

    tries: int
    """How often a layer is asked for that arrives corrupted."""

    def expect(self, indices: Sequence[int]) -> None:
        """Say which layers (0 is the lowest) will be asked for, in that order: they may be fetched ahead."""

    def layer(self, index: int) -> Arrival:
        """Return the layer's blob on its way. Asked again, it is fetched again."""

    def received(self, index: int) -> None:
        """Say that the layer is in the store."""

    def close(self) -> None:
        """End all that is under way."""


def ingest(
    store: Store, emit: Emit, name: str, diff_ids: Sequence[DiffID], supply: Supply, *, repair: bool = True
) -> None:
    """Get the layers `diff_ids` (bottom first) of the image `name` into the store; what is there is not
    fetched, unless `repair` is set and it cannot be written out again.

    Of several builds that want the same image at once, one fetches it. Closes `supply`. Raises FormatError,
    RegistryError, StoreError.
    """
    chains: list[ChainID] = []
    for diff_id in diff_ids:
        chains.append(ChainID.extend(chains[-1] if chains else None, diff_id))
    try:
        if not missing(store, diff_ids, chains, repair):
            return

        def waiting() -> None:
            emit(Notice("info", "base/waiting", f"{name}: another build is fetching it; waiting"))

        with store.lock(f"pull-{chains[-1]}", on_wait=waiting):
            _ingest(store, name, diff_ids, chains, supply, repair)
    finally:
        supply.close()


def _ingest(
    store: Store,
    name: str,
    diff_ids: Sequence[DiffID],
    chains: Sequence[ChainID],
    supply: Supply,
    repair: bool,
) -> None:
    wanted = missing(store, diff_ids, chains, repair)
    supply.expect([index for index in wanted if store.blobs.pulled(diff_ids[index]) is None])
    for index in wanted:
        parent = chains[index - 1] if index else None
        if not _unpack_known(store, parent, diff_ids[index]):
            _receive(store, name, parent, diff_ids[index], supply, index)


def missing(store: Store, diff_ids: Sequence[DiffID], chains: Sequence[ChainID], repair: bool) -> list[int]:
    """Return the layers to be had: those that are not there, or, with `repair`, whose own tar cannot be had
    any more.

    The blob of somebody else's tar may have been damaged, and dropped: without it, no output can be written.
    """
    found = []
    for index, chain_id in enumerate(chains):
        if store.layers.get(chain_id) is not None:
            if not repair:
                continue
            tree = store.layers.index.tree(chain_id)
            if tree is None or tree == diff_ids[index] or store.blobs.pulled(diff_ids[index]) is not None:
                continue
        found.append(index)
    return found


def _unpack_known(store: Store, parent: ChainID | None, diff_id: DiffID) -> bool:
    """Make the layer from the blob that it was pulled as, if that is still here. False if it is not."""
    known = store.blobs.pulled(diff_id)
    file = None if known is None else store.blobs.open(known.digest)
    if file is None:
        return False
    with file, store.stage() as staging:
        changeset = unpack(decompress(file), staging.upper, lowerdirs=_lowerdirs(store, parent))
        if changeset.diff_id != diff_id:
            return False
        store.layers.publish(parent, staging, changeset, foreign=True)
    return True


def _receive(
    store: Store, name: str, parent: ChainID | None, diff_id: DiffID, supply: Supply, index: int
) -> None:
    for left in reversed(range(supply.tries)):
        arrival = supply.layer(index)
        try:
            with store.stage() as staging:
                try:
                    changeset = _unpack(arrival, staging, _lowerdirs(store, parent))
                except DigestMismatch:
                    if not left:
                        raise
                    continue
                except FormatError as error:
                    where = f"layer {index + 1} of {name}"
                    raise FormatError(f"{where}: {error.message}", hint=error.hint, code=error.code) from None
                if changeset.diff_id != diff_id:
                    raise DigestMismatch(
                        f"layer {index + 1} of {name} is not the one that the image config names: "
                        f"it unpacks to {changeset.diff_id}, not {diff_id}"
                    )
                _publish(store, parent, staging, changeset, arrival)
                supply.received(index)
                return
        finally:
            arrival.discard()


def _unpack(arrival: Arrival, staging: Staging, lowerdirs: tuple[str, ...]) -> Changeset:
    """Unpack what arrives. Where that makes no sense, a corrupted transfer is the better explanation."""
    try:
        changeset = unpack(decompress(arrival), staging.upper, lowerdirs=lowerdirs)
    except FormatError:
        arrival.finish()
        raise
    arrival.finish()
    return changeset


def _publish(
    store: Store, parent: ChainID | None, staging: Staging, changeset: Changeset, arrival: Arrival
) -> None:
    """Publish the layer, and keep its blob: the files alone do not give somebody else's tar back.

    A plain tar that is as we would write it is not kept: we can.
    """
    blob = arrival.finish()
    kind = arrival.kind
    if kind == "bzip2" or kind == "xz":
        raise FormatError(f"a layer is compressed with {kind}, which the image-spec does not know")
    foreign = kind != "none" or write_tar(staging.upper, _Nowhere()).diff_id != changeset.diff_id
    if foreign:
        size = blob.size
        store.blobs.note_pulled(changeset.diff_id, LayerBlob(kind, blob.commit(), size))
    store.layers.publish(parent, staging, changeset, foreign=foreign)


class _Nowhere:
    def write(self, data: bytes, /) -> None:
        """Take `data`, and do nothing."""


def _lowerdirs(store: Store, parent: ChainID | None) -> tuple[str, ...]:
    return () if parent is None else store.layers.lowerdirs(parent)
