"""What a tag or a digest names, in a registry or an OCI layout: a manifest, or an index of several."""

from __future__ import annotations

from cache.errors import FormatError
from cache.oci.document import loads
from cache.oci.spec import (
    DOCKER_LAYER_FOREIGN,
    DOCKER_MANIFEST_V1,
    DOCKER_MANIFEST_V1_SIGNED,
    INDEX_TYPES,
    MANIFEST_TYPES,
    MEDIA_TYPE_NONDISTRIBUTABLE,
    Descriptor,
    Index,
    Manifest,
)

MANIFEST_LIMIT = 4 * 1024 * 1024
"""Bytes. The distribution-spec lets a registry refuse larger manifests; so do we."""

_SCHEMA_1 = frozenset((DOCKER_MANIFEST_V1, DOCKER_MANIFEST_V1_SIGNED))


def read_document(data: bytes, declared: str) -> tuple[str, Manifest | Index]:
    """Return the media type of `data` and what it holds.

    `declared` is the type that the descriptor or the Content-Type header gives, or "". A document that can be
    read as two things is refused: image-spec, manifest.md, and CVE-2021-41190. Raises FormatError.
    """
    members = loads(data, "manifest")
    own = members.text("mediaType")
    media_type = own or (declared if declared in MANIFEST_TYPES | INDEX_TYPES | _SCHEMA_1 else "")
    if own and declared in MANIFEST_TYPES | INDEX_TYPES and own != declared:
        raise FormatError(f"a manifest calls itself {own[:100]}, but was served as {declared[:100]}")
    if media_type in _SCHEMA_1 or members.number("schemaVersion") == 1:
        raise FormatError(
            "the image has Docker's schema 1, which no digest protects",
            hint="push it again with a tool of this decade: skopeo copy --format=v2s2",
        )
    is_index = bool(members.documents("manifests"))
    is_manifest = bool(members.document("config") or members.documents("layers"))
    if is_index and is_manifest:
        raise FormatError("a manifest that is an index, too, is ambiguous: refused")
    if not is_manifest and (media_type in INDEX_TYPES or (is_index and not media_type)):
        index = Index.from_json(data)
        return media_type or index.media_type, index
    if is_manifest and (media_type in MANIFEST_TYPES or not media_type):
        manifest = Manifest.from_json(data)
        return media_type or manifest.media_type, manifest
    raise FormatError(f"neither an image manifest nor an index: {media_type[:100] or 'no media type'}")


def check_layers(manifest: Manifest) -> None:
    """Refuse a manifest with layers that cannot be had, or that are none. Raises FormatError."""
    for layer in manifest.layers:
        kind = layer.media_type
        if kind == DOCKER_LAYER_FOREIGN or kind.startswith(MEDIA_TYPE_NONDISTRIBUTABLE):
            raise FormatError(
                f"layer {layer.digest} is a foreign one, which registries do not hold: refused",
                code="image/foreign-layer",
                hint="foreign layers are those of Windows images; pybuild builds for Linux",
            )
        if not is_layer(kind):
            raise FormatError(
                f"layer {layer.digest} is no file system: {kind[:100]}",
                code="image/not-an-image",
                hint="the name is that of an artifact (a chart, a signature), not of an image",
            )


def is_layer(media_type: str) -> bool:
    """Whether `media_type` is that of a layer that can be unpacked. "" is: Docker's archives do not say."""
    bare = media_type.partition("+")[0].removesuffix(".gzip").removesuffix(".zstd")
    return bare in (
        "",
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
    )


def single(index: Index) -> Descriptor | None:
    """The only image of an index, attestations aside, or None."""
    images = [item for item in index.manifests if item.platform is None or item.platform.os != "unknown"]
    return images[0] if len(images) == 1 else None
