"""type=oci: an OCI image layout in a tar archive (image-layout.md)."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from builder.exporters.base import Output
from builder.exporters.destination import open_output
from builder.exporters.meter import Meters
from builder.exporters.oci_documents import LAYOUT_FILE, image_documents, merge
from builder.exporters.packing import pack
from builder.exporters.tar_archive import TarArchive
from cache.oci.digest import Digest
from cache.oci.spec import Index

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.exporters.base import Source
    from builder.exporters.output_spec import OutputSpec
    from cache.blobs import LayerBlob
    from cache.store import Store


def export(source: Source, spec: OutputSpec, store: Store, emit: Emit) -> Output:
    """Write the archive. Layers go into it, lowest first, while those above are still being compressed."""
    meters = Meters(emit)
    blobs: list[LayerBlob] = []
    written: set[Digest] = set()
    with open_output(spec.dest) as stream:
        archive = TarArchive(stream)
        archive.directory("blobs/")
        archive.directory("blobs/sha256/")
        with closing(pack(store, source.layers, spec.compression, emit)) as packed:
            for layer, blob in zip(source.layers, packed, strict=True):
                if blob.digest not in written:
                    archive.layer(_path(blob.digest), store, layer, blob, meters)
                written.add(blob.digest)
                blobs.append(blob)
        manifest, entries = image_documents(source.config, blobs, source.names)
        for document in (source.config, manifest):
            archive.file(_path(Digest.of(document)), document)
        archive.file("index.json", merge(Index(()), entries).to_json())
        archive.file("oci-layout", LAYOUT_FILE)
        archive.end()
    return Output(spec, stream.size, Digest.of(manifest))


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"
