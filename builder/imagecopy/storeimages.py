"""Images of the store, as a place to copy from: they go out as `pybuild push` and the output `oci` write
them.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    from cache.oci.reference import Reference
    from cache.store import Store

_CHUNK = 1 << 18


def stored(store: Store, name: str) -> Group:
    """Return the image of the store that `name` means, for each of its platforms. Raises UsageError,
    StoreError.
    """
    from builder.exporters.base import Source
    from builder.lookup import find_images

    return [Source.load(store, each.image_id) for each in find_images(store, name)]


class StoreSource:
    """An image of the store. Its layers that were not pulled are compressed by `root`."""

    repository: Reference | None = None
    tries = 1

    def __init__(self, store: Store, group: Group, emit: Emit, compression: Compression = GZIP) -> None:
        """`group` is the image for each of its platforms."""
        self._compression = compression
        self._store = store
        self._group = group
        self._emit = emit
        self._documents: dict[Digest, Document] = {}
        self._small: dict[Digest, bytes] = {}

    def root(self) -> Document:
        """Return the image's manifest, or its index if it is for several platforms. Raises
        StoreError."""
        from builder.exporters.oci_documents import image_index, image_manifest
        from builder.exporters.packing import pack

        group = self._group
        found: list[Descriptor] = []
        for source in group:
            with closing(pack(self._store, source.layers, self._compression, self._emit)) as packed:
                data, bare = image_manifest(source, list(packed))
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
        if file is None:
            raise StoreError(f"the blob {descriptor.digest} is gone: was the store pruned?")
        with file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        return ()

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def _keep(self, data: bytes, bare: Descriptor, kind: str) -> Descriptor:
        content = Manifest.from_json(data) if kind == MEDIA_TYPE_MANIFEST else Index.from_json(data)
        self._documents[bare.digest] = Document(bare, data, content)
        return bare
