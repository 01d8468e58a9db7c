"""A shared cache in a repository of a registry, as any that speaks the distribution-spec can hold it.

    k-KEY-SIGNER    a tag for each sealed entry: a manifest that names the step's layer as its layer, so that
                    the registry keeps it, and has the entry in an annotation. SIGNER: the first 40 digits of
                    the signer's id, or `unsigned`
    l-LINE          a tag for each line of descent: the sealed entries that builds of it have met, in an
                    annotation, or in a blob if they are many: one request, or two

A registry has no conditional put. Two who add the same entry of the same signer mean the same, and the last
one stays. A line of descent is a hint: whoever extends it reads it again afterwards, and says once more what
is missing; what got lost nevertheless is found by its key. For the same reason there are no claims: two who
run a step at once both tell what it gave.

    RegistryCache(client, "HOST/REPOSITORY", name=...)     the client has the timeouts
"""

from __future__ import annotations

import base64
import random
import re
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.entries import Entry
from cache.envelope import Envelope
from cache.errors import CacheError, FormatError
from cache.oci.digest import Digest
from cache.oci.reference import Reference
from cache.oci.spec import MEDIA_TYPE_EMPTY, MEDIA_TYPE_MANIFEST, Descriptor, Manifest
from cache.remote import ENTRY_LIMIT, LINE_LIMIT, UNSIGNED, Collected, RemoteError, Stored
from cache.remotes.lines import joined, split, without
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
_FEW = 50
_SIGNER_DIGITS = 40
_TAG = re.compile(f"k-([0-9a-f]{{64}})-([0-9a-f]{{{_SIGNER_DIGITS}}}|{UNSIGNED})")
_OURS = re.compile(f"{_TAG.pattern}|l-[0-9a-f]{{64}}")


@dataclass(frozen=True, slots=True)
class _Held:
    """A sealed entry under its tag, the layers that its manifest names, and what it says: None if that is
    nothing."""

    tag: str
    key: str
    signer: str
    sealed: bytes
    layers: tuple[Descriptor, ...]
    entry: Entry | None


class RegistryCache:
    """The cache in the repository `place` (`host/path`), through `client`, which it closes."""

    def __init__(self, client: RegistryClient, place: str, *, name: str = "") -> None:
        self.name = name or place
        self.claims = False
        self._client = client
        self._reference = Reference.parse(place)
        self._writer: RepositoryWriter | None = None
        self._has_empty = False
        self._sending: dict[Digest, threading.Lock] = {}
        self._in_order = True

    def line(self, line: str) -> list[bytes]:
        """See RemoteCache."""
        with self._reaching():
            manifest = self._manifest(f"l-{line}")
            return [] if manifest is None else self._entries(manifest[1])

    def extend(self, line: str, entries: Iterable[bytes]) -> None:
        """See RemoteCache."""
        added = _within(list(dict.fromkeys(entries)))
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
                tags = self._tags_of(key)
            found = (self._manifest(tag) for tag in tags)
            return [sealed for each in found if each and (sealed := _sealed(each[1])) is not None]

    def add(
        self, key: str, signer: str, entry: bytes, layer: Descriptor | None, *, replace: bool = False
    ) -> bool:
        """See RemoteCache."""
        if len(entry) > ENTRY_LIMIT // 2:
            raise RemoteError(f"{self.name}: an entry of {len(entry)} bytes is too long for a manifest")
        with self._reaching():
            tag = _tag(key, signer)
            if not replace and self._manifest(tag) is not None:
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
        with self._reaching(), self._alone(blob.digest):
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
            for each in self._all(self._tags("k-")):
                if each.entry is not None:
                    yield Stored(each.key, each.signer, len(each.sealed), each.entry.created)

    def remove(self, key: str) -> int:
        """See RemoteCache."""
        with self._reaching():
            tags = [tag for tag in self._tags("k-") if tag.startswith(f"k-{key}-")]
            found = len([tag for tag in tags if self._delete(tag)])
            self._forget({key})
            return found

    def collect(self, *, older: int | None, unused: int | None, dry_run: bool) -> Collected:
        """See RemoteCache. When an entry was used is not known here: its age counts.

        Blobs go if the repository holds nothing but the cache, and the registry lets them be deleted; else
        they are for the registry's own collection, which takes what no manifest names: an image may share
        them.
        """
        limit = max((each for each in (older, unused) if each is not None), default=None)
        with self._reaching():
            doomed: list[_Held] = []
            kept: list[_Held] = []
            tags = self._tags("")
            for each in self._all(tags):
                late = limit is not None and each.entry is not None and each.entry.created < limit
                (doomed if late or each.entry is None else kept).append(each)
            blobs = {layer.digest: layer.size for each in doomed for layer in each.layers}
            entries = [tag for tag in tags if _TAG.fullmatch(tag)]
            if not all(map(_OURS.fullmatch, tags)) or len(entries) > len(doomed) + len(kept):
                blobs = {}  # an image is there, too
            for layer in (layer for each in kept for layer in each.layers):
                blobs.pop(layer.digest, None)
            if not dry_run:
                for each in doomed:
                    self._delete(each.tag)
                self._forget({each.key for each in doomed})
                blobs = self._delete_blobs(blobs, set(tags))
            size = sum(blobs.values()) + sum(len(each.sealed) for each in doomed)
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

    def _alone(self, digest: Digest) -> threading.Lock:
        """Return what keeps other threads from sending a blob that this one sends: two would send it twice,
        and Docker's registry refuses what names a blob that is being stored again.
        """
        return self._sending.setdefault(digest, threading.Lock())

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
            try:
                return _unpacked(base64.b64decode(inline))
            except ValueError:
                return []
        if len(manifest.layers) != 1 or manifest.layers[0].size > LINE_LIMIT:
            return []
        return _unpacked(self._client.blob_bytes(self._reference, manifest.layers[0], LINE_LIMIT))

    def _put_line(self, line: str, entries: list[bytes]) -> None:
        packed = zlib.compress(joined(_within(entries)), 6)
        if len(packed) <= _INLINE:
            self._put(f"l-{line}", ARTIFACT_LINE, (), base64.b64encode(packed).decode())
            return
        blob = Descriptor(MEDIA_TYPE_LINE, Digest.of(packed), len(packed))
        self._writing().put_blob(blob, lambda: iter((packed,)))
        self._put(f"l-{line}", ARTIFACT_LINE, (blob,), None)

    def _put(self, tag: str, kind: str, layers: tuple[Descriptor, ...], text: str | None) -> None:
        empty = Descriptor(MEDIA_TYPE_EMPTY, Digest.of(_EMPTY), len(_EMPTY))
        with self._alone(empty.digest):
            if not self._has_empty and not self._writing().has(empty.digest):
                self._writing().put_blob(empty, lambda: iter((_EMPTY,)))
            self._has_empty = True
        manifest = Manifest(
            empty,
            layers or (empty,),  # the image-spec asks for one
            artifact_type=kind,
            annotations=() if text is None else ((ANNOTATION, text),),
        )
        self._writing().put_manifest(tag, MEDIA_TYPE_MANIFEST, manifest.to_json())

    def _tags(self, prefix: str, after: str = "") -> list[str]:
        """Return the tags that begin with `prefix`; of those that come `after` a tag, the next few."""
        from itertools import islice

        from cache.errors import RegistryError

        few = _FEW if after else None
        try:
            found = islice(self._client.tags(self._reference, few, after), few)
            return [tag for tag in found if tag.startswith(prefix)]
        except RegistryError as error:
            if error.code == "registry/not-found":
                return []
            raise

    def _tags_of(self, key: str) -> list[str]:
        """Return the tags of one step's entries. They stand together where a registry sends tags in the order
        of the alphabet, and from where it is asked to (distribution-spec, Listing Tags): then few others
        come. Docker's of old sends them all, in no order.
        """
        prefix, before = f"k-{key}-", f"k-{key}"
        if self._in_order:
            page = self._tags("", after=before)
            ordered = page == sorted(page) and all(tag > before for tag in page)
            if len(page) < _FEW or (ordered and not page[-1].startswith(prefix)):
                return [tag for tag in page if tag.startswith(prefix)]
            self._in_order = ordered
        return self._tags(prefix)

    def _all(self, tags: Iterable[str]) -> Iterator[_Held]:
        """Yield the entries among `tags`."""
        for tag in tags:
            name = _TAG.fullmatch(tag)
            found = self._manifest(tag) if name else None
            sealed = None if found is None else _sealed(found[1])
            if name is not None and found is not None and sealed is not None:
                layers = tuple(each for each in found[1].layers if each.media_type != MEDIA_TYPE_EMPTY)
                yield _Held(tag, name[1], _signer(sealed, name[2]), sealed, layers, _read(sealed, name[1]))

    def _delete(self, tag: str) -> bool:
        found = self._manifest(tag)
        return found is not None and self._writing().delete("manifests", found[0])

    def _delete_blobs(self, blobs: dict[Digest, int], known: set[str]) -> dict[Digest, int]:
        """Delete blobs that the entries under the tags `known` no longer name; return which are gone. What
        has come meanwhile keeps what it names; a registry that deletes no blobs collects them itself."""
        from cache.errors import RegistryError

        fresh = [tag for tag in self._tags("") if tag not in known]
        if not all(map(_OURS.fullmatch, fresh)):
            return {}
        kept = {layer.digest for each in self._all(fresh) for layer in each.layers}
        gone = {}
        for digest, size in blobs.items():
            try:
                if digest not in kept and self._writing().delete("blobs", digest):
                    gone[digest] = size
            except RegistryError as error:
                if error.code not in ("registry/denied", "registry/refused"):
                    raise
                break
        return gone

    def _forget(self, keys: set[str]) -> None:
        """Take what speaks of `keys` out of the lines of descent."""
        for tag in self._tags("l-"):
            entries = self.line(tag.removeprefix("l-"))
            left = without(entries, keys)
            if len(left) != len(entries):
                self._put_line(tag.removeprefix("l-"), left)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        from cache.registry.session import Cancelled

        try:
            yield
        except RemoteError:
            raise
        except Cancelled:
            raise RemoteError(f"{self.name}: stopped") from None
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
    return split(data)


def _read(sealed: bytes, key: str) -> Entry | None:
    """Return the entry under `key`; None if it is none, or speaks of something else."""
    try:
        entry = Entry.from_json(Envelope.from_json(sealed).payload)
    except FormatError:
        return None
    return entry if entry.key == key else None


def _signer(sealed: bytes, short: str) -> str:
    """Return the whole id of the signer of whom a tag has the beginning."""
    try:
        signatures = Envelope.from_json(sealed).signatures
    except FormatError:
        return short
    named = (keyid for keyid, _ in signatures if re.fullmatch(f"{short}[0-9a-f]*", keyid))
    return next(named, short)
