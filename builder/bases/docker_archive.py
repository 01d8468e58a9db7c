"""FROM docker-archive://FILE[:name:tag]: what `docker save` writes (moby's image/spec/spec.md)."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from builder.bases.archives import resolve_archive
from builder.bases.base import BaseImage, BaseRequest, Surroundings, refuse_options
from builder.errors import BaseError
from cache.errors import DigestMismatch, FormatError
from cache.oci.digest import Digest

if TYPE_CHECKING:
    from builder.bases.archive import Archive
    from builder.bases.arrivals import Readable
    from cache.oci.document import Document
    from cache.oci.platform import Platform

_MANIFEST_LIMIT = 16 * 1024 * 1024
_CONFIG_LIMIT = 16 * 1024 * 1024
_HEX = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.json)?$")


class DockerArchiveTransport:
    """Bases from Docker archives. One that was read already, and is the same file, is not read again."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def resolve(self, request: BaseRequest) -> BaseImage:
        """Return the image. Raises BaseError, FormatError, StoreError."""
        refuse_options(request, "a Docker archive")

        def take(
            archive: Archive, path: str, reference: str, tag: str | None, digest: Digest | None
        ) -> BaseImage:
            if digest is not None:
                raise BaseError(f"{path}: an image in a Docker archive has no digest", code="base/not-found")
            images = DockerArchive(archive, path)
            return take_image(self._around, images, images.select(tag), reference, request.platform)

        return resolve_archive(self._around, request, "docker-archive", take)

    def close(self) -> None: ...


def take_image(
    around: Surroundings, archive: DockerArchive, entry: Document, reference: str, platform: Platform
) -> BaseImage:
    """Get an image of the archive into the store, without a name; return it as the base `reference`."""
    from builder.bases.images import keep_unnamed, read_config
    from builder.bases.ingest import ingest
    from builder.bases.local import LocalLayer, LocalSupply

    data = archive.config(entry)
    layers = entry.texts("Layers")
    config = read_config(data, len(layers), archive.path)
    supply = LocalSupply(
        around, archive.path, [LocalLayer(partial(archive.open_layer, each), None) for each in layers]
    )
    ingest(around.store, around.emit, archive.path, config.diff_ids, supply)
    return keep_unnamed(around, data, config, reference, platform, None)


class DockerArchive:
    """An archive with a manifest.json that lists its images."""

    def __init__(self, archive: Archive, path: str) -> None:
        self._archive = archive
        self.path = path
        self.images = self._read_images()

    def select(self, name: str | None) -> Document:
        """Return the image that goes by `name` (None: the only one). Raises BaseError."""
        if name is None and len(self.images) == 1:
            return self.images[0]
        found = [item for item in self.images if name is not None and _is_named(item, name)]
        if found:
            return found[0]
        reason = "it holds several images" if name is None else f"no image is named {name[:200]!r}"
        names = sorted(tag for item in self.images for tag in item.texts("RepoTags"))
        hint = f"the names in it are: {', '.join(names[:20]) or 'none'}"
        raise BaseError(f"{self.path}: {reason}", code="base/not-found", hint=hint)

    def config(self, entry: Document) -> bytes:
        """Return the config of an image.

        Its file is named by its digest, which is verified. Raises FormatError.
        """
        name = entry.required_text("Config")
        data = self._small(name, _CONFIG_LIMIT)
        named = _HEX.search(name)
        if named is not None and Digest.of(data).hex != named[1]:
            raise DigestMismatch(
                f"{self.path}: the image config {name[:100]} is damaged: it has another digest"
            )
        return data

    def open_layer(self, name: str) -> tuple[Readable, int]:
        """Return a stream of a layer, not verified yet, and its size. Raises FormatError."""
        found = self._archive.open(name)
        if found is None:
            raise FormatError(f"{self.path} lacks the layer {name[:200]!r}")
        return found

    def _read_images(self) -> list[Document]:
        from cache.oci.document import loads

        # a list, which `loads` does not take: wrapped into an object, it is read as every other document
        data = self._small("manifest.json", _MANIFEST_LIMIT)
        return list(loads(b'{"images":' + data + b"}", f"{self.path}: manifest.json").documents("images"))

    def _small(self, name: str, limit: int) -> bytes:
        found = self._archive.open(name)
        if found is None:
            raise FormatError(f"{self.path} is not a Docker archive: it has no {name[:200]}")
        stream, size = found
        if size > limit:
            raise FormatError(f"{self.path}: {name[:200]} has more than {limit} bytes: refused")
        data = bytearray()
        while piece := stream.read(1 << 20):
            data += piece
        return bytes(data)


def _is_named(item: Document, name: str) -> bool:
    from cache.images import canonical_name

    wanted = canonical_name(name, strict=False)
    return any(
        tag == name or (wanted is not None and canonical_name(tag, strict=False) == wanted)
        for tag in item.texts("RepoTags")
    )
