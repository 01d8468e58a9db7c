"""Registries as places of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.imagecopy.base import Document

if TYPE_CHECKING:
    from builder.imagecopy.base import Chunks
    from builder.imagecopy.lenders import Lenders
    from cache.oci.digest import Digest
    from cache.oci.reference import Reference
    from cache.oci.spec import Descriptor
    from cache.registry.client import RegistryClient


class RegistrySource:
    """An image in a registry, or in a mirror of it."""

    tries = 3

    def __init__(self, client: RegistryClient, reference: Reference) -> None:
        self._client = client
        self._reference = reference
        self.repository: Reference | None = reference

    def root(self) -> Document:
        """Return what the name means. Raises RegistryError, FormatError."""
        name = self._reference.digest or self._reference.tag or "latest"
        return Document(*self._client.manifest(self._reference, name))

    def document(self, descriptor: Descriptor) -> Document:
        """Return a manifest or an index by its digest. Raises RegistryError, FormatError."""
        return Document(*self._client.manifest(self._reference, descriptor.digest))

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob. Raises RegistryError, and DigestMismatch if what came was not it."""
        return self._client.blob(self._reference, descriptor)

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest. Raises RegistryError, FormatError."""
        return self._client.referrers(self._reference, digest)

    def stop(self) -> None:
        self._client.stop()

    def close(self) -> None:
        self._client.close()


class RegistryDestination:
    """An image in a registry, under a tag, or under its digest alone."""

    at_once = 4

    def __init__(
        self,
        client: RegistryClient,
        reference: Reference,
        origin: Reference | None,
        digest: Digest,
        lenders: Lenders | None = None,
    ) -> None:
        """`origin` is the repository that it comes from: one of the same registry lends its blobs; `lenders`
        know of others that may. `digest` is that of what will be copied. Raises UsageError if the name has
        another one, RegistryError.
        """
        if reference.digest not in (None, digest):
            raise UsageError(f"{reference}: what is copied is {digest}", code="usage/place")
        self._client = client
        self._reference = reference
        self._writer = client.writer(reference)
        same = origin is not None and origin.registry == reference.registry
        self._mounted = origin.repository if origin is not None and same else None
        self._lenders = lenders

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the repository has the blob. Raises RegistryError."""
        found = self._writer.has(descriptor.digest)
        if found and self._lenders is not None:
            self._lenders.note(descriptor.digest, self._reference)
        return found

    def put(self, descriptor: Descriptor, chunks: Chunks) -> None:
        """Send a blob, or have it mounted. Raises RegistryError, and what reading it raises."""
        lenders, digest, mounted = self._lenders, descriptor.digest, self._mounted
        if mounted is None and lenders is not None:
            mounted = lenders.of(digest, self._reference)
        self._writer.put_blob(descriptor, chunks, mounted)
        if lenders is not None:
            lenders.note(digest, self._reference)

    def add(self, document: Document) -> None:
        descriptor = document.descriptor
        self._writer.put_manifest(descriptor.digest, descriptor.media_type, document.data)

    def refer(self, document: Document, descriptor: Descriptor) -> None:
        """Store a manifest, and let it be found by what it refers to."""
        subject = document.content.subject
        if subject is None:
            self.add(document)
        else:
            listed = replace(descriptor, media_type=document.descriptor.media_type)
            self._writer.put_referrer(subject.digest, listed, document.data)

    def finish(self, root: Document) -> None:
        """Give the image its name. Raises RegistryError."""
        name = self._reference.tag or root.descriptor.digest
        self._writer.put_manifest(name, root.descriptor.media_type, root.data)

    def stop(self) -> None:
        self._client.stop()

    def close(self) -> None:
        self._client.close()
