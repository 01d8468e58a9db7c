"""type=oci: an OCI image layout in a tar archive (image-layout.md)."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from builder.exporters.base import Output
from builder.exporters.destination import open_output
from builder.exporters.meter import Meters
from builder.exporters.oci_documents import LAYOUT_FILE, image_index, image_manifest, merged
from builder.exporters.packing import pack
from builder.exporters.tar_archive import TarArchive
from cache.oci.digest import Digest
from cache.oci.spec import Descriptor, Index

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.events import Emit
    from builder.exporters.base import Group, Source
    from builder.exporters.output_spec import OutputSpec
    from cache.blobs import LayerBlob
    from cache.store import Store


def export(group: Group, spec: OutputSpec, store: Store, emit: Emit) -> Output:
    """Write the archive. Layers go into it, lowest first, while those above are still being compressed."""
    return export_several((group,), spec, store, emit)


def export_several(groups: Sequence[Group], spec: OutputSpec, store: Store, emit: Emit) -> Output:
    """Write an archive of several images; what they share is in it once. The manifest is the last one's."""
    index = Index(())
    written: set[Digest] = set()
    with open_output(spec.dest) as stream:
        archive = TarArchive(stream)
        archive.directory("blobs/")
        archive.directory("blobs/sha256/")
        for group in groups:
            found: list[Descriptor] = []
            for source in group:
                blobs = _write_layers(archive, written, source, spec, store, emit)
                document, bare = image_manifest(source, blobs)
                _write_documents(archive, written, source.config, document)
                found.append(bare)
            if len(group) > 1:
                document, bare = image_index(group, found)
                _write_documents(archive, written, document)
            index = merged(index, bare, group)
        archive.file("index.json", index.to_json())
        archive.file("oci-layout", LAYOUT_FILE)
        archive.end()
    return Output(spec, stream.size, bare.digest)


def _write_documents(archive: TarArchive, written: set[Digest], *documents: bytes) -> None:
    for document in documents:
        if Digest.of(document) not in written:
            archive.file(_path(Digest.of(document)), document)
        written.add(Digest.of(document))


def _write_layers(
    archive: TarArchive, written: set[Digest], source: Source, spec: OutputSpec, store: Store, emit: Emit
) -> list[LayerBlob]:
    """Write the blobs of an image's layers that are not `written` yet; return them all."""
    meters = Meters(emit)
    blobs: list[LayerBlob] = []
    with closing(pack(store, source.layers, spec.compression, emit)) as packed:
        for layer, blob in zip(source.layers, packed, strict=True):
            if blob.digest not in written:
                archive.layer(_path(blob.digest), store, layer, blob, meters)
            written.add(blob.digest)
            blobs.append(blob)
    return blobs


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"
