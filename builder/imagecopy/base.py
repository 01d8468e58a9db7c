"""What an image is copied from and to, whatever kind of place that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cache.oci.digest import Digest
    from cache.oci.reference import Reference
    from cache.oci.spec import Descriptor, Index, Manifest

Chunks = Callable[[], Iterator[bytes]]
"""Begins to read a blob, from its beginning each time."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index as it is stored: `data` has the digest and the size of `descriptor`."""

    descriptor: Descriptor
    data: bytes
    content: Manifest | Index


class Source(Protocol):
    """An image where it is. Safe to use from several threads, `root` apart."""

    repository: Reference | None
    """The repository that it is in, if that is one of a registry."""

    tries: int
    """How often a blob is read again that comes out damaged."""

    def root(self) -> Document:
        """Return what is to be copied: what the image's name means. Raises CacheError, BuildError."""

    def document(self, descriptor: Descriptor) -> Document:
        """Return a manifest or an index below that, verified. Raises CacheError, BuildError."""

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob. It is the one that is meant only if no exception ends it: DigestMismatch, for
        one.
        """

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest. Raises CacheError."""

    def stop(self) -> None:
        """End all reading in other threads, soon."""

    def close(self) -> None: ...


class Destination(Protocol):
    """A place that an image is written to. Nothing can be seen of it under its name before `finish`."""

    at_once: int
    """How many blobs it takes at the same time, from as many threads."""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a blob need not be sent: it is there, or can be had there."""

    def put(self, descriptor: Descriptor, chunks: Chunks) -> None:
        """Take a blob. Raises CacheError, BuildError, and whatever reading raises."""

    def add(self, document: Document) -> None:
        """Take a manifest or an index below another one, whose blobs are there by now."""

    def refer(self, document: Document, descriptor: Descriptor) -> None:
        """Take a manifest that refers to another one, which is there by now; `descriptor` is how it is
        listed.
        """

    def finish(self, root: Document) -> None:
        """Take what the image's name is to mean."""

    def stop(self) -> None:
        """End all writing in other threads, soon."""

    def close(self) -> None:
        """Let go; without `finish` before it, what was taken is of no use."""
