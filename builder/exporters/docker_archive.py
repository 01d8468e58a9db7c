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
from cache.oci.digest import Digest
from cache.oci.document import dumps
from cache.oci.reference import Reference
from cache.oci.spec import ImageConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.events import Emit
    from builder.exporters.base import Group, Source
    from builder.exporters.output_spec import OutputSpec
    from cache.layers import Layer
    from cache.oci.digest import DiffID
    from cache.store import Store

_VERSION = b"1.0"


def export(group: Group, spec: OutputSpec, store: Store, emit: Emit) -> Output:
    """Write the archive. What leads to the layers comes before them, for readers of a stream."""
    return export_several((group,), spec, store, emit)


def export_several(groups: Sequence[Group], spec: OutputSpec, store: Store, emit: Emit) -> Output:
    """Write an archive of several images, each for one platform; what they share is in it once."""
    sources = [source for (source,) in groups]
    meters = Meters(emit)
    paths = _paths(sources)
    tops = {source.layers[-1].chain_id: source for source in sources if source.layers}
    with open_output(spec.dest) as stream:
        archive = TarArchive(stream)
        archive.file("manifest.json", dumps([_entry(source, paths) for source in sources]))
        archive.file("repositories", _repositories(sources))
        for config in dict.fromkeys(source.config for source in sources):
            archive.file(f"{Digest.of(config).hex}.json", config)
        for layer in _layers(sources):
            name = layer.chain_id.hex
            archive.directory(f"{name}/")
            archive.file(f"{name}/VERSION", _VERSION)
            archive.file(f"{name}/json", _legacy(layer, tops.get(layer.chain_id)))
            if paths[layer.diff_id] == f"{name}/layer.tar":
                blob = LayerBlob("none", layer.diff_id, layer.size)
                archive.layer(f"{name}/layer.tar", store, layer, blob, meters)
        archive.end()
    return Output(spec, stream.size, None)


def _layers(sources: Sequence[Source]) -> Iterable[Layer]:
    """Return every layer once, in the order in which images need them."""
    return {layer.chain_id: layer for source in sources for layer in source.layers}.values()


def _paths(sources: Sequence[Source]) -> dict[DiffID, str]:
    """Return where the tar of each layer lies: an empty one, for one, is the same wherever it stands."""
    paths: dict[DiffID, str] = {}
    for layer in _layers(sources):
        paths.setdefault(layer.diff_id, f"{layer.chain_id.hex}/layer.tar")
    return paths


def _entry(source: Source, paths: Mapping[DiffID, str]) -> dict[str, object]:
    return {
        "Config": f"{source.image_id.hex}.json",
        "RepoTags": list(source.names) or None,
        "Layers": [paths[layer.diff_id] for layer in source.layers],
    }


def _repositories(sources: Sequence[Source]) -> bytes:
    """Return name -> tag -> top layer, for loaders that do not know manifest.json."""
    tags: dict[str, dict[str, str]] = {}
    for source in sources:
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
