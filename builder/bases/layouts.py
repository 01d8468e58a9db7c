"""Reading an OCI image layout, be it a directory or an archive (image-spec, image-layout.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from builder.errors import BaseError
from cache.errors import DigestMismatch, FormatError
from cache.oci.digest import Digest
from cache.oci.spec import ANNOTATION_REF_NAME, Descriptor, Index, Manifest
from cache.registry.documents import MANIFEST_LIMIT, check_layers, read_document

if TYPE_CHECKING:
    from builder.bases.arrivals import Readable
    from cache.oci.platform import Platform

_CONFIG_LIMIT = 16 * 1024 * 1024
_DEEPEST_INDEX = 4
CONTAINERD_NAME = "io.containerd.image.name"


class Files(Protocol):
    """The files of a layout. Names are relative, with slashes."""

    def open(self, name: str) -> tuple[Readable, int] | None:
        """Return a stream of the regular file `name`, and its size; None if there is none."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Selector:
    """Which image of a layout is meant: by tag, by the digest of its manifest, or the only one."""

    tag: str | None = None
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class LayoutImage:
    """An image in a layout: its manifest with the digest of it, and its config, verified."""

    digest: Digest
    manifest: Manifest
    config: bytes


class Layout:
    """An image layout in `files`; `name` is what errors call it.

    Nothing is believed before its digest is verified.
    """

    def __init__(self, files: Files, name: str) -> None:
        self._files = files
        self._name = name

    def image(self, selector: Selector, platform: Platform) -> LayoutImage:
        """Return the image that is meant. Raises BaseError if there is none, FormatError."""
        document: Manifest | Index
        descriptor = self._select(self.index(), selector, platform)
        for _ in range(_DEEPEST_INDEX):
            data = self.blob(descriptor, MANIFEST_LIMIT)
            _, document = read_document(data, descriptor.media_type)
            if isinstance(document, Manifest):
                check_layers(document)
                return LayoutImage(descriptor.digest, document, self.blob(document.config, _CONFIG_LIMIT))
            chosen = document.select(platform)
            if chosen is None:
                raise self._no_platform(document, platform)
            descriptor = chosen
        raise FormatError(f"{self._name}: an index within an index, {_DEEPEST_INDEX} deep: refused")

    def index(self) -> Index:
        """Return what the layout holds. Raises FormatError."""
        index = Index.from_json(self._small("index.json", MANIFEST_LIMIT))
        self._check_version()
        return index

    def blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """Return a small blob, verified. Raises FormatError."""
        stream, size = self.open_blob(descriptor)
        try:
            if size > limit:
                raise FormatError(
                    f"{self._name}: blob {descriptor.digest} has more than {limit} bytes: refused"
                )
            data = _read(stream, size)
        finally:
            stream.close()
        if _digest(data, descriptor.digest) != descriptor.digest:
            raise DigestMismatch(f"{self._name}: blob {descriptor.digest} is damaged: it has another digest")
        return data

    def select(self, selector: Selector, platform: Platform) -> Descriptor:
        """Return what the layout's index has for `selector`: a manifest, or an index of several. Raises
        BaseError, FormatError.
        """
        return self._select(self.index(), selector, platform)

    def open_blob(self, descriptor: Descriptor) -> tuple[Readable, int]:
        """Return a stream of a blob, not verified yet, and its size. Raises FormatError if it is missing."""
        digest = descriptor.digest
        found = self._files.open(f"blobs/{digest.algorithm}/{digest.hex}")
        if found is None:
            raise FormatError(f"{self._name} lacks the blob {digest}")
        if descriptor.size and found[1] != descriptor.size:
            found[0].close()
            raise DigestMismatch(f"{self._name}: blob {digest} is damaged: it has {found[1]} bytes")
        return found

    def _small(self, name: str, limit: int) -> bytes:
        found = self._files.open(name)
        if found is None:
            raise FormatError(f"{self._name} is not an OCI layout: it has no {name}")
        stream, size = found
        try:
            if size > limit:
                raise FormatError(f"{self._name}: {name} has more than {limit} bytes: refused")
            return _read(stream, size)
        finally:
            stream.close()

    def _check_version(self) -> None:
        try:
            version = json.loads(self._small("oci-layout", 4096))["imageLayoutVersion"]
        except (ValueError, LookupError, TypeError):
            version = None
        if not isinstance(version, str) or not version.startswith("1."):
            raise FormatError(f"{self._name} is not an OCI layout of version 1: {version!r}")

    def _select(self, index: Index, selector: Selector, platform: Platform) -> Descriptor:
        if selector.digest is not None:
            named = [item for item in index.manifests if item.digest == selector.digest]
            # a digest may also be that of a manifest below an index
            return named[0] if named else Descriptor("", selector.digest, 0)
        candidates = index.manifests
        if selector.tag is not None:
            candidates = tuple(item for item in candidates if selector.tag in _names(item))
            if not candidates:
                raise self._unknown(index, f"no image is tagged {selector.tag[:200]!r}")
        elif len({_names(item) for item in candidates}) > 1:
            raise self._unknown(index, "it holds several images")
        chosen = Index(candidates).select(platform)
        if chosen is None:
            raise self._no_platform(Index(candidates), platform)
        return chosen

    def _unknown(self, index: Index, reason: str) -> BaseError:
        tags = sorted({name for item in index.manifests for name in _names(item)})
        known = ", ".join(tags[:20]) or "none"
        return BaseError(
            f"{self._name}: {reason}", code="base/not-found", hint=f"the tags in it are: {known}"
        )

    def _no_platform(self, index: Index, platform: Platform) -> BaseError:
        offered = sorted({str(item.platform) for item in index.manifests if item.platform is not None})
        return BaseError(
            f"{self._name} has no image for {platform}",
            code="base/platform",
            hint=f"it has {', '.join(offered[:20])}" if offered else None,
        )


def _names(item: Descriptor) -> tuple[str, ...]:
    """The names that a manifest of a layout goes by: buildah writes whole references, most others tags."""
    return tuple(value for key, value in item.annotations if key in (ANNOTATION_REF_NAME, CONTAINERD_NAME))


def _read(stream: Readable, size: int) -> bytes:
    data = bytearray()
    while len(data) <= size and (piece := stream.read(1 << 20)):
        data += piece
    return bytes(data[:size])


def _digest(data: bytes, like: Digest) -> str:
    import hashlib

    return f"{like.algorithm}:{hashlib.new(like.algorithm, data).hexdigest()}"
