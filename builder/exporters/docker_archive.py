"""type=docker: what `docker save` writes and `docker load`, podman and most scanners read.

Source: moby, image/spec/v1.2.md (Combined Image JSON + Filesystem Changeset Format). Each layer lies in a
directory that is called by its ChainID, with the files that loaders older than Docker 1.10 want. Names are
whole, as podman and skopeo write them: Docker takes them for the short ones, podman would take short ones for
localhost's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.exporters.base import Output
from builder.exporters.destination import open_output
from builder.exporters.meter import Meters
from builder.exporters.tar_archive import TarArchive
from cache.blobs import LayerBlob
from cache.oci.document import dumps
from cache.oci.reference import Reference
from cache.oci.spec import ImageConfig

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.exporters.base import Source
    from builder.exporters.output_spec import OutputSpec
    from cache.layers import Layer
    from cache.store import Store

_VERSION = b"1.0"


def export(source: Source, spec: OutputSpec, store: Store, emit: Emit) -> Output:
    """Write the archive. What leads to the layers comes before them, for readers of a stream."""
    meters = Meters(emit)
    with open_output(spec.dest) as stream:
        archive = TarArchive(stream)
        archive.file("manifest.json", _manifest(source))
        archive.file("repositories", _repositories(source))
        archive.file(f"{source.image_id.hex}.json", source.config)
        for place, layer in enumerate(source.layers):
            name = layer.chain_id.hex
            archive.directory(f"{name}/")
            archive.file(f"{name}/VERSION", _VERSION)
            archive.file(f"{name}/json", _legacy(layer, source if place == len(source.layers) - 1 else None))
            if _is_first(source, place):
                blob = LayerBlob("none", layer.diff_id, layer.size)
                archive.layer(f"{name}/layer.tar", store, layer, blob, meters)
        archive.end()
    return Output(spec, stream.size, None)


def _is_first(source: Source, place: int) -> bool:
    """Whether the layer has not come already: an empty one is the same wherever it stands."""
    return _path(source, place) == f"{source.layers[place].chain_id.hex}/layer.tar"


def _path(source: Source, place: int) -> str:
    wanted = source.layers[place].diff_id
    first = next(layer for layer in source.layers if layer.diff_id == wanted)
    return f"{first.chain_id.hex}/layer.tar"


def _manifest(source: Source) -> bytes:
    entry = {
        "Config": f"{source.image_id.hex}.json",
        "RepoTags": list(source.names) or None,
        "Layers": [_path(source, place) for place in range(len(source.layers))],
    }
    return dumps([entry])


def _repositories(source: Source) -> bytes:
    """Return name -> tag -> top layer, for loaders that do not know manifest.json."""
    tags: dict[str, dict[str, str]] = {}
    for name in source.names if source.layers else ():
        reference = Reference.parse(name)
        tags.setdefault(reference.name, {})[reference.tag or "latest"] = source.layers[-1].chain_id.hex
    return dumps(tags)


def _legacy(layer: Layer, source: Source | None) -> bytes:
    """Return the config of a layer as a v1 image; the topmost one (`source`) is the image, and runs as it."""
    document: dict[str, object] = {"id": layer.chain_id.hex, "created": "1970-01-01T00:00:00Z"}
    if layer.parent is not None:
        document["parent"] = layer.parent.hex
    if source is not None:
        config = ImageConfig.from_json(source.config)
        document.update(architecture=config.architecture, os=config.os, config=config.config.value())
    return dumps(document)
