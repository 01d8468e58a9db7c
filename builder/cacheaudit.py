"""Looking at a shared cache as a whole: each entry, whether it is believed, whether its layers are what it
says.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.entries import unsealed
from cache.envelope import Envelope
from cache.errors import CacheError, FormatError
from cache.remote import RemoteError
from cache.trust import Believed, Trust, judge

if TYPE_CHECKING:
    from builder.cachetiers import CacheTier
    from cache.entries import Entry
    from cache.oci.digest import DiffID
    from cache.oci.spec import Descriptor
    from cache.remote import RemoteCache, Stored
    from cache.signing import PrivateKey

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Audited:
    """An entry in a shared cache. `entry` is None if it cannot be read. `doubt` is why it is not believed, ""
    if it is; None where nobody is named who could be.
    """

    stored: Stored
    entry: Entry | None
    sealed: bytes
    doubt: str | None


class Audit:
    """One shared cache, and the trust that its entries are judged by."""

    def __init__(self, tier: CacheTier, remote: RemoteCache) -> None:
        """Raises KeyFileError, UsageError of a key that is missing."""
        self.name = tier.name
        self.remote = remote
        self._trust = tier.trust
        self._nobody = tier.trust.keys == ()

    def entries(self, keys: Iterable[str] = ()) -> Iterator[Audited]:
        """Yield every entry; with `keys`, those whose keys begin with one of them. Raises RemoteError."""
        wanted = tuple(keys)
        for stored in self.remote.stored():
            if not wanted or stored.key.startswith(wanted):
                for sealed in self.remote.entry(stored.key, (stored.signer,)):
                    yield self._audited(stored, sealed)

    def damage(self, entry: Entry) -> str:
        """Return what is the matter with the layers of an entry, "" if nothing is: each is read to its end.
        Raises RemoteError if the cache does not answer."""
        try:
            diff_ids = _diff_ids(entry)
        except FormatError as error:
            return error.message
        if len(diff_ids) != len(entry.layers):
            return "its layers are not those of its config"
        for blob, diff_id in zip(entry.layers, diff_ids, strict=True):
            # There first: a blob that is gone is this entry's fault, a cache that is down is not.
            if not self.remote.has_blob(blob.digest):
                return f"its layer {blob.digest} is not there"
            try:
                limit = None if entry.record is None else entry.record.size
                found = _contents(self.remote.blob(blob), blob, limit)
            except (RemoteError, OSError):
                raise
            except CacheError as error:
                return f"its layer {blob.digest} cannot be unpacked: {error.message}"
            if found != (blob.digest, diff_id):
                return f"its layer {blob.digest} is another one"
        return ""

    def sign(self, audited: Audited, key: PrivateKey) -> bool:
        """Add a believed entry again, with the signature of `key`; False if there is one. Raises
        RemoteError."""
        entry = audited.entry
        assert entry is not None and audited.doubt == ""
        # Signatures of others are not taken along: they would say nothing to who believes this key alone.
        sealed = Envelope(Envelope.from_json(audited.sealed).payload).signed(key).to_json()
        blob = entry.layers[-1] if entry.layers else None
        return self.remote.add(entry.key, key.public.id, sealed, blob)

    def _audited(self, stored: Stored, sealed: bytes) -> Audited:
        judged = judge(sealed, Trust() if self._nobody else self._trust, int(time.time()))
        if not isinstance(judged, Believed):
            return Audited(stored, unsealed(sealed), sealed, judged.reason)
        if judged.entry.key != stored.key:
            return Audited(stored, judged.entry, sealed, "it speaks of something else")
        return Audited(stored, judged.entry, sealed, None if self._nobody else "")


def _diff_ids(entry: Entry) -> tuple[DiffID, ...]:
    if entry.kind == "base":
        from cache.oci.spec import ImageConfig

        return ImageConfig.from_json(entry.value.encode()).diff_ids
    record = entry.record
    return () if record is None or record.diff_id is None else (record.diff_id,)


def _contents(chunks: Iterator[bytes], blob: Descriptor, limit: int | None) -> tuple[str, str]:
    """Return the digest of a blob, and that of what is in it, of which no more is read than `limit` bytes and
    some."""
    from cache.decompression import decompress

    source = _Hashed(chunks, blob.digest.algorithm)
    inner, count = hashlib.sha256(), 0
    with decompress(source) as plain:
        while (limit is None or count <= limit) and (data := plain.read(_CHUNK)):
            inner.update(data)
            count += len(data)
    while source.read(_CHUNK):
        pass
    return source.digest, f"sha256:{inner.hexdigest()}"


class _Hashed:
    """Chunks as a file, hashed as they are read."""

    def __init__(self, chunks: Iterator[bytes], algorithm: str) -> None:
        self._chunks = chunks
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._left = b""

    @property
    def digest(self) -> str:
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._hash.update(chunk)
            self._left = chunk
        data, self._left = (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
        return data
