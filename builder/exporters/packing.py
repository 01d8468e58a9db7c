"""Layers as they go out: the very tar that a DiffID names, and the compressed blobs that are made of it.

Each layer is compressed once: what comes out stays in the store's blobs. Several are compressed at once, and
of one layer several blocks, so that many small ones and a single large one both keep all processors busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.exporters.meter import Meters
from cache.blobs import LayerBlob
from cache.compression import Compression, compressed, processors
from cache.errors import StoreCorrupt, StoreError
from cache.oci.digest import DiffID

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from builder.events import Emit
    from cache.compression import Writable
    from cache.layers import Layer
    from cache.store import Store


def write_layer(store: Store, layer: Layer, out: Writable) -> None:
    """Write the uncompressed tar of a layer to `out`: exactly the bytes that its DiffID is the digest of.

    Raises StoreCorrupt if they cannot be had, and then what was written is to be thrown away.
    """
    tree = store.layers.index.tree(layer.chain_id)
    if tree is None or tree == layer.diff_id:
        from cache.changeset import write_tar

        found = write_tar(store.layers.diff_path(layer), out).diff_id
    else:
        found = _write_pulled(store, layer, out)
    if found != layer.diff_id:
        store.layers.distrust(layer)
        raise StoreCorrupt(
            f"the layer {layer.chain_id} was changed on the disk: it makes {found}, not {layer.diff_id}",
            hint=f"build it again: what is in {store.layers.diff_path(layer)} is not taken any more",
        )


def _write_pulled(store: Store, layer: Layer, out: Writable) -> DiffID:
    """Write the tar that came from elsewhere, out of the blob that it came in: from its files we write
    another."""
    import hashlib

    from cache.decompression import decompress

    pulled = store.blobs.pulled(layer.diff_id)
    file = None if pulled is None else store.blobs.open(pulled.digest)
    if file is None:
        raise StoreError(
            f"the layer {layer.diff_id} came from elsewhere, and the blob that it came in is gone",
            hint="`pybuild build --pull` fetches it again, `pybuild load` takes it from an archive",
            code="store/missing",
        )
    digest = hashlib.sha256()
    with file:
        stream = decompress(file)
        while data := stream.read(1 << 18):
            digest.update(data)
            out.write(data)
    return DiffID(f"sha256:{digest.hexdigest()}")


def pack(
    store: Store, layers: Sequence[Layer], compression: Compression, emit: Emit
) -> Generator[LayerBlob, None, None]:
    """Yield the blob of each layer, in order, as soon as it stands in the store.

    Of `none` nothing is stored: the blobs are the tars that `write_layer` writes. To be closed if it is not
    used up: other threads are at the layers to come. Raises StoreError.
    """
    if compression.kind == "none":
        for layer in layers:
            yield LayerBlob("none", layer.diff_id, layer.size)
        return
    meters = Meters(emit)
    packer = _Packer(store, compression, meters)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(processors(), thread_name_prefix="pack") as pool:
        futures = [pool.submit(packer.pack, layer) for layer in layers]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            meters.stop()
            pool.shutdown(cancel_futures=True)
            raise


class _Packer:
    def __init__(self, store: Store, compression: Compression, meters: Meters) -> None:
        self._store = store
        self._how = compression
        self._meters = meters

    def pack(self, layer: Layer) -> LayerBlob:
        """Return the layer's blob, made if the store has none. Of several that want it, one makes it."""
        found = self._find(layer)
        if found is not None:
            return found
        how = self._how
        with self._store.lock(f"pack-{layer.diff_id.hex}-{how.kind}-{how.level}"):
            return self._find(layer) or self._make(layer)

    def _find(self, layer: Layer) -> LayerBlob | None:
        blob = self._store.blobs.layer(layer.diff_id, self._how)
        file = None if blob is None else self._store.blobs.open(blob.digest)
        if file is None:
            return None
        file.close()
        return blob

    def _make(self, layer: Layer) -> LayerBlob:
        blobs, how = self._store.blobs, self._how
        short = layer.diff_id.hex[:12]
        with blobs.writer() as out:
            with (
                compressed(out, how, size=layer.size) as sink,
                self._meters.transfer(f"pack-{short}", f"compressing {short}", layer.size, sink) as meter,
            ):
                write_layer(self._store, layer, meter)
            made = LayerBlob(how.kind, out.commit(), out.size)
        blobs.note_layer(layer.diff_id, how, made)
        return made
