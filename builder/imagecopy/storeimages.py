"""Images of the store, as a place to copy from: they go out as `pybuild push` and the output `oci` write
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from builder.imagecopy.base import Document
from cache.compression import GZIP, Compression
from cache.errors import StoreError
from cache.oci.digest import Digest
from cache.oci.spec import MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST, Descriptor, Index, Manifest

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.exporters.base import Group
    from cache.absent import AbsentLayer
    from cache.blobs import LayerBlob
    from cache.layers import Layer
    from cache.oci.digest import ChainID
    from cache.oci.reference import Reference
    from cache.store import Store

_CHUNK = 1 << 18


def stored(store: Store, name: str) -> Group:
    """Return the image of the store that `name` means, for each of its platforms. Raises UsageError,
    StoreError.
    """
    from builder.exporters.base import Source
    from builder.lookup import find_images

    return [Source.load(store, each.image_id, fetch=False) for each in find_images(store, name)]


class StoreSource:
    """An image of the store. Its layers that were not pulled are compressed by `root`; those that are not
    here are fetched by it, or by `blob` if somebody lends them."""

    repository: Reference | None = None
    tries = 1

    def __init__(
        self,
        store: Store,
        group: Group,
        emit: Emit,
        compression: Compression = GZIP,
        lent: Callable[[AbsentLayer], Descriptor | None] = lambda layer: None,
    ) -> None:
        """`group` is the image for each of its platforms. `lent` returns the blob of a layer where that is
        where it is to go."""
        self._compression = compression
        self._lent = lent
        self._elsewhere: dict[Digest, ChainID] = {}
        self._store = store
        self._group = group
        self._emit = emit
        self._documents: dict[Digest, Document] = {}
        self._small: dict[Digest, bytes] = {}

    def root(self) -> Document:
        """Return the image's manifest, or its index if it is for several platforms. Raises
        StoreError."""
        from builder.exporters.oci_documents import image_index, image_manifest

        group = self._group
        found: list[Descriptor] = []
        for source in group:
            data, bare = image_manifest(source, self._blobs(source.config))
            self._small[source.image_id] = source.config
            found.append(self._keep(data, bare, MEDIA_TYPE_MANIFEST))
        if len(group) > 1:
            data, bare = image_index(group, found)
            found = [self._keep(data, bare, MEDIA_TYPE_INDEX)]
        return self._documents[found[0].digest]

    def document(self, descriptor: Descriptor) -> Document:
        return self._documents[descriptor.digest]

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob, verified. Raises StoreError."""
        small = self._small.get(descriptor.digest)
        if small is not None:
            yield small
            return
        file = self._store.blobs.open(descriptor.digest)
        if file is None and descriptor.digest in self._elsewhere:  # nobody lends it after all
            self._store.layers.chain(self._elsewhere[descriptor.digest])
            file = self._store.blobs.open(descriptor.digest)
        if file is None:
            raise StoreError(f"the blob {descriptor.digest} is gone: was the store pruned?")
        with file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        return ()

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def _blobs(self, config: bytes) -> list[LayerBlob]:
        """Return the layers' blobs, the lowest first."""
        from builder.exporters.base import chain_ids_of
        from builder.exporters.packing import pack
        from builder.imagecopy.lenders import kind_of
        from cache.absent import AbsentLayer
        from cache.blobs import LayerBlob

        chain_ids = chain_ids_of(config)
        if not chain_ids:
            return []
        lent: list[LayerBlob] = []
        for layer in self._store.stack(chain_ids[-1]) or ():
            blob = self._lent(layer) if isinstance(layer, AbsentLayer) else None
            if blob is not None:
                lent.append(LayerBlob(kind_of(blob), blob.digest, blob.size))
                self._elsewhere[blob.digest] = layer.chain_id
            elif isinstance(layer, AbsentLayer):
                lent = []
                break
        # What is not here stands on what is.
        below = chain_ids[: len(chain_ids) - len(lent)]
        layers = self._store.layers.chain(below[-1]) if below else ()
        kept = {layer.chain_id: was for layer in layers if (was := self._as_pulled(layer)) is not None}
        others = [layer for layer in layers if layer.chain_id not in kept]
        with closing(pack(self._store, others, self._compression, self._emit)) as packed:
            return [*(kept.get(layer.chain_id) or next(packed) for layer in layers), *lent]

    def _as_pulled(self, layer: Layer) -> LayerBlob | None:
        """Return the blob that a base's layer was pulled as: registries have that already."""
        blob, known = self._store.blobs.pulled(layer.diff_id), self._store.absent.get(layer.chain_id)
        origins = () if known is None else known.origins
        pulled = [each.blob.digest for each in origins if each.kind == "registry"]
        return blob if blob is not None and blob.digest in pulled else None

    def _keep(self, data: bytes, bare: Descriptor, kind: str) -> Descriptor:
        content = Manifest.from_json(data) if kind == MEDIA_TYPE_MANIFEST else Index.from_json(data)
        self._documents[bare.digest] = Document(bare, data, content)
        return bare
