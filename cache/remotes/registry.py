"""A shared cache in a repository of a registry, as any that speaks the distribution-spec can hold it.

    k-KEY-SIGNER    a tag for each sealed entry: a manifest that names the step's layer as its layer, so that
                    the registry keeps it, and has the entry in an annotation
    l-LINE          a tag for each line of descent: the sealed entries that builds of it have met

A registry has no conditional put. Two who add the same entry of the same signer mean the same, and the last
one stays. A line of descent is a hint: whoever extends it reads it again afterwards, and says once more what
is missing; what got lost nevertheless is found by its key.
"""

from __future__ import annotations

import base64
import random
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cache.entries import Entry, key_of
from cache.envelope import Envelope
from cache.errors import CacheError, FormatError
from cache.oci.digest import Digest
from cache.oci.reference import Reference
from cache.oci.spec import MEDIA_TYPE_EMPTY, MEDIA_TYPE_MANIFEST, Descriptor, Manifest
from cache.remote import ENTRY_LIMIT, LINE_LIMIT, UNSIGNED, Collected, RemoteError, Stored
from cache.remotes.sending import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

    from cache.registry.client import RegistryClient
    from cache.registry.writer import RepositoryWriter
    from cache.remote import Claim

ARTIFACT_ENTRY = "application/vnd.pybuild.cache.entry.v1"
ARTIFACT_LINE = "application/vnd.pybuild.cache.line.v1"
MEDIA_TYPE_LINE = "application/vnd.pybuild.cache.line.v1+zlib"
ANNOTATION = "dev.pybuild.cache"

_EMPTY = b"{}"
_INLINE = 1 << 20
"""Bytes of a line of descent that its manifest has room for. Registries must take manifests of 4 MiB."""

_MOST_TRIES = 12
_SIGNER_DIGITS = 40


class RegistryCache:
    """The cache in the repository `place` (`host/path`), through `client`, which it closes."""

    def __init__(self, client: RegistryClient, place: str, *, name: str = "") -> None:
        self.name = name or place
        self.claims = False
        self._client = client
        self._reference = Reference.parse(place)
        self._writer: RepositoryWriter | None = None
        self._has_empty = False

    def line(self, line: str) -> list[bytes]:
        """See RemoteCache."""
        with self._reaching():
            manifest = self._manifest(f"l-{line}")
            return [] if manifest is None else self._entries(manifest[1])

    def extend(self, line: str, entries: Iterable[bytes]) -> None:
        """See RemoteCache."""
        added = list(dict.fromkeys(entries))
        with self._reaching():
            for attempt in range(_MOST_TRIES):
                known = self.line(line)
                missing = [each for each in added if each not in set(known)]
                if not missing:
                    return
                if attempt > 1:
                    time.sleep(random.random() * 0.05 * attempt)  # whoever writes too is to be done by then
                self._put_line(line, [*missing, *known])

    def entry(self, key: str, signers: Iterable[str]) -> list[bytes]:
        """See RemoteCache."""
        with self._reaching():
            wanted = list(signers)
            tags = [_tag(key, each) for each in wanted if each]
            if "" in wanted:
                tags = [tag for tag in self._tags("k-") if tag.startswith(f"k-{key}-")]
            found = (self._manifest(tag) for tag in tags)
            return [sealed for each in found if each and (sealed := _sealed(each[1])) is not None]

    def add(self, key: str, signer: str, entry: bytes, layer: Descriptor | None) -> bool:
        """See RemoteCache."""
        if len(entry) > ENTRY_LIMIT // 2:
            raise RemoteError(f"{self.name}: an entry of {len(entry)} bytes is too long for a manifest")
        with self._reaching():
            tag = _tag(key, signer)
            if self._manifest(tag) is not None:
                return False
            layers = () if layer is None else (layer,)
            self._put(tag, ARTIFACT_ENTRY, layers, entry.decode("ascii"))
            return True

    def has_blob(self, digest: Digest) -> bool:
        """See RemoteCache."""
        with self._reaching():
            return self._writing().has(digest)

    def put_blob(self, blob: Descriptor, opener: Callable[[], BinaryIO]) -> bool:
        """See RemoteCache."""
        with self._reaching():
            if self._writing().has(blob.digest):
                return False
            return self._writing().put_blob(blob, lambda: checked(blob, opener))

    def blob(self, blob: Descriptor) -> Iterator[bytes]:
        """See RemoteCache."""
        with self._reaching():
            yield from self._client.blob(self._reference, blob)

    def claim(self, key: str, seconds: float) -> Claim | None:
        """See RemoteCache: a registry cannot keep one."""
        return None

    def stored(self) -> Iterator[Stored]:
        """See RemoteCache."""
        with self._reaching():
            for _, _, sealed in self._all():
                entry = _read(sealed)
                if entry is not None:
                    yield Stored(entry.key, _signer(sealed), len(sealed), entry.created)
            return

    def remove(self, key: str) -> int:
        """See RemoteCache."""
        with self._reaching():
            tags = [tag for tag in self._tags("k-") if tag.startswith(f"k-{key}-")]
            self._forget({key})
            return sum(self._delete(tag) for tag in tags)

    def collect(self, *, older: int | None, unused: int | None, dry_run: bool) -> Collected:
        """See RemoteCache. When an entry was used is not known here: its age counts."""
        limit = max((each for each in (older, unused) if each is not None), default=None)
        doomed: list[tuple[str, Manifest, bytes]] = []
        kept: set[Digest] = set()
        with self._reaching():
            for tag, manifest, sealed in self._all():
                entry = _read(sealed)
                if entry is not None and (limit is None or entry.created >= limit):
                    kept.update(each.digest for each in manifest.layers)
                else:
                    doomed.append((tag, manifest, sealed))
            blobs = {
                each.digest: each.size
                for _, manifest, _ in doomed
                for each in manifest.layers
                if each.digest not in kept
            }
            size = sum(blobs.values()) + sum(len(sealed) for _, _, sealed in doomed)
            if not dry_run:
                self._forget({key_of(sealed) for _, _, sealed in doomed})
                for tag, _, _ in doomed:
                    self._delete(tag)
                for digest in blobs:
                    self._writing().delete("blobs", digest)
            return Collected(len(doomed), len(blobs), size)

    def stop(self) -> None:
        """See RemoteCache."""
        self._client.stop()

    def close(self) -> None:
        """See RemoteCache."""
        self._client.close()

    def _writing(self) -> RepositoryWriter:
        if self._writer is None:
            self._writer = self._client.writer(self._reference)
        return self._writer

    def _manifest(self, name: str) -> tuple[Digest, Manifest] | None:
        """Return what a tag holds, None if there is none, or if it is nothing of ours."""
        from cache.errors import RegistryError

        try:
            descriptor, _, document = self._client.manifest(self._reference, name)
        except RegistryError as error:
            if error.code == "registry/not-found":
                return None
            raise
        except FormatError:
            return None
        return (descriptor.digest, document) if isinstance(document, Manifest) else None

    def _entries(self, manifest: Manifest) -> list[bytes]:
        inline = dict(manifest.annotations).get(ANNOTATION)
        if inline is not None:
            return _unpacked(base64.b64decode(inline, validate=False))
        if len(manifest.layers) != 1 or manifest.layers[0].size > LINE_LIMIT:
            return []
        return _unpacked(self._client.blob_bytes(self._reference, manifest.layers[0], LINE_LIMIT))

    def _put_line(self, line: str, entries: list[bytes]) -> None:
        packed = zlib.compress(b"\n".join(_within(entries)), 6)
        if len(packed) <= _INLINE:
            self._put(f"l-{line}", ARTIFACT_LINE, (), base64.b64encode(packed).decode())
            return
        blob = Descriptor(MEDIA_TYPE_LINE, Digest.of(packed), len(packed))
        self._writing().put_blob(blob, lambda: iter((packed,)))
        self._put(f"l-{line}", ARTIFACT_LINE, (blob,), None)

    def _put(self, tag: str, kind: str, layers: tuple[Descriptor, ...], text: str | None) -> None:
        empty = Descriptor(MEDIA_TYPE_EMPTY, Digest.of(_EMPTY), len(_EMPTY))
        if not self._has_empty:
            if not self._writing().has(empty.digest):
                self._writing().put_blob(empty, lambda: iter((_EMPTY,)))
            self._has_empty = True
        manifest = Manifest(
            empty,
            layers or (empty,),  # the image-spec asks for one
            artifact_type=kind,
            annotations=() if text is None else ((ANNOTATION, text),),
        )
        self._writing().put_manifest(tag, MEDIA_TYPE_MANIFEST, manifest.to_json())

    def _tags(self, prefix: str) -> list[str]:
        from cache.errors import RegistryError

        try:
            return [tag for tag in self._client.tags(self._reference) if tag.startswith(prefix)]
        except RegistryError as error:
            if error.code == "registry/not-found":
                return []
            raise

    def _all(self) -> Iterator[tuple[str, Manifest, bytes]]:
        """Yield every entry: its tag, its manifest without what stands for no layer, the sealed entry."""
        from dataclasses import replace

        for tag in self._tags("k-"):
            found = self._manifest(tag)
            sealed = None if found is None else _sealed(found[1])
            if found is not None and sealed is not None:
                layers = tuple(each for each in found[1].layers if each.media_type != MEDIA_TYPE_EMPTY)
                yield tag, replace(found[1], layers=layers), sealed

    def _delete(self, tag: str) -> bool:
        found = self._manifest(tag)
        return found is not None and self._writing().delete("manifests", found[0])

    def _forget(self, keys: set[str]) -> None:
        """Take what speaks of `keys` out of the lines of descent."""
        for tag in self._tags("l-"):
            entries = self.line(tag.removeprefix("l-"))
            left = [each for each in entries if key_of(each) not in keys]
            if len(left) != len(entries):
                self._put_line(tag.removeprefix("l-"), left)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except RemoteError:
            raise
        except CacheError as error:
            raise RemoteError(f"{self.name}: {error.message}", hint=error.hint) from None


def _tag(key: str, signer: str) -> str:
    return f"k-{key}-{signer[:_SIGNER_DIGITS]}"


def _sealed(manifest: Manifest) -> bytes | None:
    text = dict(manifest.annotations).get(ANNOTATION)
    return None if text is None else text.encode("utf-8", "replace")


def _within(entries: list[bytes]) -> list[bytes]:
    """Leave the oldest out where a line becomes longer than anyone would read."""
    left, found = LINE_LIMIT // 4, []
    for entry in entries:
        left -= len(entry) + 1
        if left < 0:
            break
        found.append(entry)
    return found


def _unpacked(packed: bytes) -> list[bytes]:
    """Return the entries of a line of descent; [] where that makes no sense."""
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, LINE_LIMIT)
    except zlib.error:
        return []
    return [each for each in data.split(b"\n") if each]


def _read(sealed: bytes) -> Entry | None:
    try:
        return Entry.from_json(Envelope.from_json(sealed).payload)
    except FormatError:
        return None


def _signer(sealed: bytes) -> str:
    """Return whose an entry is by its own word."""
    signatures = Envelope.from_json(sealed).signatures
    return signatures[0][0] if signatures else UNSIGNED
