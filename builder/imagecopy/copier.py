"""Copying an image: what it consists of, in which order that goes, and what need not go.

Blobs go first, side by side; then manifests, then the index, and the name last: who reads the destination
meanwhile sees the old image or the new one, and never a part. Manifests go as the bytes that they are, so
that every digest stays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from builder.exporters.meter import Meter, Meters, Stopped
from cache.errors import DigestMismatch, FormatError, RegistryError
from cache.oci.digest import Digest
from cache.oci.spec import (
    DOCKER_LAYER_FOREIGN,
    MEDIA_TYPE_NONDISTRIBUTABLE,
    Descriptor,
    Manifest,
)

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.imagecopy.base import Destination, Document, Source
    from cache.oci.platform import Platform

_T = TypeVar("_T")
_R = TypeVar("_R")

_DEEPEST = 4
_MOST_DOCUMENTS = 10_000


@dataclass(slots=True)
class Parts:
    """What an image consists of. `documents` are those below the root, each after those below it; `referrers`
    are manifests that refer to one before them, with how they are listed.
    """

    root: Document
    documents: list[Document] = field(default_factory=list)
    referrers: list[tuple[Document, Descriptor]] = field(default_factory=list)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Copied:
    """What was done. `sent` and `known` count blobs; `size` are the bytes that were sent."""

    root: Descriptor
    sent: int
    known: int
    size: int


def parts_of(source: Source, root: Document, *, referrers: bool = False) -> Parts:
    """Return all that belongs to `root`, and with `referrers` all that refers to that. Raises CacheError."""
    parts = Parts(root)
    seen = {root.descriptor.digest}
    _below(source, root, parts, seen, _DEEPEST, parts.documents)
    if referrers:
        _referrers(source, [root, *parts.documents], parts, seen)
    return parts


def only(source: Source, root: Document, platform: Platform) -> Document:
    """Return the manifest for `platform` of what `root` is. Raises RegistryError (registry/platform)."""
    for _ in range(_DEEPEST):
        if isinstance(root.content, Manifest):
            return root
        chosen = root.content.select(platform)
        if chosen is None:
            known = sorted({str(item.platform) for item in root.content.manifests if item.platform})
            raise RegistryError(
                f"there is no image for {platform}",
                code="registry/platform",
                hint=f"there is one for {', '.join(known)[:500]}" if known else None,
            )
        root = source.document(chosen)
    raise FormatError(f"an index within an index, {_DEEPEST} deep: refused")


def copy(source: Source, destination: Destination, parts: Parts, emit: Emit) -> Copied:
    """Copy what `parts` tells. Raises CacheError, BuildError; then the destination's name means what it
    meant.
    """
    meters = Meters(emit)
    mover = _Mover(source, destination, meters)
    mover.move(list(parts.blobs.values()))
    _add(destination, parts.documents)
    # What refers to an image goes before its name: who finds the image finds its signature.
    for document, descriptor in parts.referrers:
        destination.refer(document, descriptor)
    destination.finish(parts.root)
    return Copied(parts.root.descriptor, mover.sent, mover.known, mover.size)


def _below(
    source: Source, above: Document, parts: Parts, seen: set[Digest], depth: int, found: list[Document]
) -> None:
    content = above.content
    if isinstance(content, Manifest):
        for blob in (content.config, *content.layers):
            if not _is_foreign(blob):
                parts.blobs.setdefault(blob.digest, blob)
        return
    if not depth:
        raise FormatError(f"an index within an index, {_DEEPEST} deep: refused")
    items = [item for item in dict.fromkeys(content.manifests) if item.digest not in seen]
    seen.update(item.digest for item in items)
    if len(seen) > _MOST_DOCUMENTS:
        raise FormatError(f"an image of more than {_MOST_DOCUMENTS} manifests: refused")
    for document in _several(source.document, items):
        _below(source, document, parts, seen, depth - 1, found)
        found.append(document)


def _several(work: Callable[[_T], _R], items: Sequence[_T], at_once: int = 8) -> list[_R]:
    """Do several small things that wait for a network at the same time."""
    if len(items) < 2 or at_once == 1:
        return [work(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(at_once, thread_name_prefix="copy") as pool:
        return list(pool.map(work, items))


def _add(destination: Destination, documents: Sequence[Document]) -> None:
    """Hand over manifests side by side, and then indexes, each after those below it."""
    manifests = [each for each in documents if isinstance(each.content, Manifest)]
    _several(destination.add, manifests, destination.at_once)
    for document in documents:
        if not isinstance(document.content, Manifest):
            destination.add(document)


def _referrers(source: Source, subjects: Sequence[Document], parts: Parts, seen: set[Digest]) -> None:
    """Find what refers to `subjects`, and what refers to that, as a signature of an SBOM does."""
    for _ in range(_DEEPEST):
        found: list[Document] = []
        for subject in subjects:
            for item in source.referrers(subject.descriptor.digest):
                if item.digest in seen:
                    continue
                seen.add(item.digest)
                if len(seen) > _MOST_DOCUMENTS:
                    raise FormatError(f"more than {_MOST_DOCUMENTS} manifests that refer to one: refused")
                document = source.document(item)
                below: list[Document] = []
                _below(source, document, parts, seen, _DEEPEST, below)
                parts.documents += below
                parts.referrers.append((document, item))
                found.append(document)
        if not found:
            return
        subjects = found


def _is_foreign(blob: Descriptor) -> bool:
    """Whether a layer is not to be had from registries, but from whom it belongs to (Windows' bases)."""
    kind = blob.media_type
    return bool(blob.urls) and (kind == DOCKER_LAYER_FOREIGN or kind.startswith(MEDIA_TYPE_NONDISTRIBUTABLE))


class _Mover:
    """Moves blobs, several at once."""

    def __init__(self, source: Source, destination: Destination, meters: Meters) -> None:
        self._source = source
        self._destination = destination
        self._meters = meters
        self._lock = threading.Lock()
        self.sent = self.known = self.size = 0

    def move(self, blobs: Sequence[Descriptor]) -> None:
        """Move all of them. Of several failures the first is raised."""
        if self._destination.at_once == 1:
            for blob in blobs:
                self._one(blob)
            return
        from concurrent.futures import ThreadPoolExecutor, as_completed

        with ThreadPoolExecutor(self._destination.at_once, thread_name_prefix="copy") as pool:
            futures = [pool.submit(self._one, blob) for blob in blobs]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._meters.stop()
                self._source.stop()
                self._destination.stop()
                pool.shutdown(cancel_futures=True)
                raise

    def _one(self, blob: Descriptor) -> None:
        if self._meters.stopped:
            raise Stopped
        if self._destination.has(blob):
            with self._lock:
                self.known += 1
            return
        short = blob.digest.hex[:12]
        for left in reversed(range(self._source.tries)):
            try:
                name, label = f"copy-{short}", f"copying {short}"
                with self._meters.transfer(name, label, blob.size, _Nowhere()) as meter:
                    self._destination.put(blob, partial(self._read, blob, meter))
            except DigestMismatch:
                if not left:
                    raise
            else:
                break
        with self._lock:
            self.sent += 1
            self.size += blob.size

    def _read(self, blob: Descriptor, meter: Meter) -> Iterator[bytes]:
        meter.done = 0
        for chunk in self._source.blob(blob):
            if self._meters.stopped:
                raise Stopped
            meter.count(len(chunk))
            yield chunk


class _Nowhere:
    def write(self, data: bytes, /) -> None:
        """Take `data`, and do nothing."""
