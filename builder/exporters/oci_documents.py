"""The documents of an OCI layout: manifest, index, and what an image is called in them (image-layout.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from builder.image import manifest
from cache.oci.digest import Digest
from cache.oci.reference import Reference
from cache.oci.spec import (
    ANNOTATION_REF_NAME,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.exporters.base import Group, Source
    from cache.blobs import LayerBlob
    from cache.oci.document import Pairs

LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
CONTAINERD_NAME = "io.containerd.image.name"

_UNNAMED = "latest"


def image_manifest(source: Source, layers: Sequence[LayerBlob]) -> tuple[bytes, Descriptor]:
    """Return the manifest of an image for one platform, and what an index says of it."""
    config, annotations = source.config, source.annotations
    document = replace(manifest(config, layers), annotations=annotations.manifest).to_json()
    return document, Descriptor(
        MEDIA_TYPE_MANIFEST,
        Digest.of(document),
        len(document),
        platform=ImageConfig.from_json(config).platform,
        annotations=annotations.descriptor,
    )


def image_index(group: Group, manifests: Sequence[Descriptor]) -> tuple[bytes, Descriptor]:
    """Return the index of an image for several platforms, and what the index of a layout says of it."""
    annotations = group[0].annotations
    document = Index(tuple(manifests), annotations=annotations.index).to_json()
    return document, Descriptor(
        MEDIA_TYPE_INDEX, Digest.of(document), len(document), annotations=annotations.index_descriptor
    )


def entries(bare: Descriptor, names: Sequence[str]) -> tuple[Descriptor, ...]:
    """Return the entries of an image in the index of a layout: one for each name.

    As BuildKit does, an entry bears the tag as its reference name, which is what skopeo and umoci take
    (`DIR:TAG`), and the whole name as containerd's, which is what podman, nerdctl and Docker load it by. An
    image without a name is `latest`.
    """
    return tuple(_entry(bare, name) for name in names) or (_named(bare, _UNNAMED, None),)


def merged(index: Index, bare: Descriptor, group: Group) -> Index:
    """Return the index of a layout with the image `group`, of which `bare` is what it says."""
    # What is asked of an index is asked of the image's own, where it has one.
    annotations = group[0].annotations.index if len(group) == 1 else ()
    return merge(index, entries(bare, group[0].names), annotations)


def merge(index: Index, entries: Sequence[Descriptor], annotations: Pairs = ()) -> Index:
    """Return `index` with `entries`, each in place of the one that went by its name, at the end if there was
    none, and with `annotations` over its own.

    A tag of two images would be ambiguous, so that the later one's reference name is its whole name then.
    """
    manifests = list(index.manifests)
    for entry in entries:
        name = _whole_name(entry)
        if name is None:
            kept = [
                each for each in manifests if _reference(each) != _UNNAMED or _whole_name(each) is not None
            ]
            manifests = [*kept, entry]
            continue
        places = [place for place, each in enumerate(manifests) if _whole_name(each) == name]
        others = [each for each in manifests if _whole_name(each) != name]
        if any(_reference(each) == _reference(entry) for each in others):
            entry = _named(entry, name, name)
        manifests = others
        manifests.insert(places[0] if places else len(manifests), entry)
    pairs = dict(index.annotations) | dict(annotations)
    return replace(index, manifests=tuple(manifests), annotations=tuple(sorted(pairs.items())))


def _entry(bare: Descriptor, name: str) -> Descriptor:
    reference = Reference.parse(name)
    return _named(bare, reference.tag or _UNNAMED, str(reference))


def _named(bare: Descriptor, reference: str, whole: str | None) -> Descriptor:
    pairs = {**dict(bare.annotations), ANNOTATION_REF_NAME: reference}
    if whole is not None:
        pairs[CONTAINERD_NAME] = whole
    return replace(bare, annotations=tuple(sorted(pairs.items())))


def _reference(entry: Descriptor) -> str | None:
    return dict(entry.annotations).get(ANNOTATION_REF_NAME)


def _whole_name(entry: Descriptor) -> str | None:
    return dict(entry.annotations).get(CONTAINERD_NAME)
