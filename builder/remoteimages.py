"""`pybuild inspect --remote`: what a registry says of an image, without its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cache.errors import FormatError
from cache.oci.spec import DOCKER_CONFIG, MEDIA_TYPE_CONFIG, Index, Manifest

if TYPE_CHECKING:
    from cache.oci.digest import Digest
    from cache.oci.platform import Platform
    from cache.oci.reference import Reference
    from cache.oci.spec import Descriptor, ImageConfig
    from cache.registry.client import RegistryClient

_CONFIG_LIMIT = 16 * 1024 * 1024
_DEEPEST_INDEX = 4


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """What a name means. `named` and `index` are what it names directly, `index` None if that is the
    manifest; `data` are the bytes of the manifest as they are in the registry.
    """

    reference: Reference
    named: Descriptor
    index: Index | None
    descriptor: Descriptor
    manifest: Manifest
    data: bytes


def look(client: RegistryClient, reference: Reference, platform: Platform) -> RemoteImage:
    """Return what `reference` means on `platform`. It may be an artifact, and no image. Raises RegistryError,
    FormatError.
    """
    from cache.registry.client import no_platform

    descriptor, data, document = client.manifest(reference, reference.digest or reference.tag or "latest")
    named, index = descriptor, document if isinstance(document, Index) else None
    for _ in range(_DEEPEST_INDEX):
        if isinstance(document, Manifest):
            return RemoteImage(reference, named, index, descriptor, document, data)
        chosen = document.select(platform)
        if chosen is None:
            raise no_platform(reference, platform, document)
        descriptor, data, document = client.manifest(reference, chosen.digest)
    raise FormatError(f"{reference.familiar}: an index within an index, {_DEEPEST_INDEX} deep: refused")


def raw(client: RegistryClient, reference: Reference, platform: Platform | None) -> bytes:
    """Return the index or manifest that `reference` names, byte by byte; with `platform`, the manifest for
    that. Raises RegistryError, FormatError.
    """
    if platform is not None:
        return look(client, reference, platform).data
    return client.manifest(reference, reference.digest or reference.tag or "latest")[1]


def inspect_remote(
    client: RegistryClient, reference: Reference, platform: Platform, *, referrers: bool = False
) -> dict[str, object]:
    """Return what there is to know of an image in a registry, spelt as `pybuild inspect` spells it. Raises
    RegistryError, FormatError.
    """
    image = look(client, reference, platform)
    manifest = image.manifest
    annotations = dict(image.index.annotations if image.index else ()) | dict(manifest.annotations)
    value: dict[str, object] = {
        "Id": manifest.config.digest,
        "Name": reference.name,
        "Digest": image.named.digest,
        "MediaType": image.named.media_type,
        "RepoTags": [reference.with_tag(reference.tag).familiar] if reference.tag else [],
        "RepoDigests": [f"{reference.name}@{image.named.digest}"],
        "ManifestDigest": image.descriptor.digest,
        "Annotations": annotations,
        "Layers": [_layer(layer) for layer in manifest.layers],
        "CompressedSize": sum(layer.size for layer in manifest.layers),
    }
    if image.index is not None:
        value["Platforms"] = _platforms(image.index)
    if manifest.subject is not None:
        value["Subject"] = manifest.subject.digest
    if manifest.config.media_type in (MEDIA_TYPE_CONFIG, DOCKER_CONFIG) and not manifest.artifact_type:
        value |= _of_config(client, image)
    else:
        value["ArtifactType"] = manifest.artifact_type or manifest.config.media_type
    if referrers:
        value["Referrers"] = _referrers(client, image)
    return value


def _of_config(client: RegistryClient, image: RemoteImage) -> dict[str, object]:
    from builder.bases.images import read_config
    from cache.oci.digest import ChainID

    manifest, name = image.manifest, image.reference.familiar
    data = client.blob_bytes(image.reference, manifest.config, _CONFIG_LIMIT)
    config: ImageConfig = read_config(data, len(manifest.layers), name)
    chains: list[ChainID] = []
    for diff_id in config.diff_ids:
        chains.append(ChainID.extend(chains[-1] if chains else None, diff_id))
    return {
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created,
        "Author": config.author,
        "Config": config.config.value(),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "RootFS": {
            "Type": "layers",
            "Layers": [str(diff_id) for diff_id in config.diff_ids],
            "ChainIDs": [str(chain) for chain in chains],
        },
    }


def _layer(layer: Descriptor) -> dict[str, object]:
    value: dict[str, object] = {"Digest": layer.digest, "MediaType": layer.media_type, "Size": layer.size}
    return {**value, "Annotations": dict(layer.annotations)} if layer.annotations else value


def _platforms(index: Index) -> dict[str, str]:
    """The manifests of an index by platform. Attestations, whose platform is unknown, are none."""
    return {
        str(item.platform): str(item.digest)
        for item in index.manifests
        if item.platform is not None and item.platform.os != "unknown"
    }


def _referrers(client: RegistryClient, image: RemoteImage) -> list[dict[str, Any]]:
    """What refers to the index that is named, or to the manifest for the platform."""
    found = []
    subjects: list[Digest] = list(dict.fromkeys((image.named.digest, image.descriptor.digest)))
    for subject in subjects:
        for item in client.referrers(image.reference, subject):
            found.append(
                {
                    "Digest": item.digest,
                    "MediaType": item.media_type,
                    "ArtifactType": item.artifact_type,
                    "Size": item.size,
                    "Subject": subject,
                    "Annotations": dict(item.annotations),
                }
            )
    return found
