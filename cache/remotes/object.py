"""A shared cache in an object store: S3 and what speaks like it, Google's, Azure's, or a directory.

    blobs/sha256/<hex>            compressed layers, by digest
    entries/<key>/<signer>        sealed entries
    lines/<line>/<sha256>         what builds of one line of descent have met: sealed entries, one a line
    claims/<key>/<number>         who runs a step now, and until when; the highest number counts

Entries and claims are put on the condition that there is none yet, which S3 (If-None-Match), Google and Azure
all know: of two who come at once, one has come first. A line of descent is read in two round trips: what
objects it has, and all of them at the same time.

    ObjectCache(url, options, name=..., timeout=...)
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cache.remote import ENTRY_LIMIT, LINE_LIMIT, Collected, RemoteError, Stored
from cache.remotes.lines import joined, layers_of, merged, split, without
from cache.remotes.objectstore import ObjectStore
from cache.remotes.sending import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import BinaryIO

    from cache.oci.digest import Digest
    from cache.oci.spec import Descriptor
    from cache.remotes.objectstore import Listed

_ENTRY = re.compile("entries/([0-9a-f]{64})/([0-9a-f]{64}|unsigned)")
_MOST_BUNDLES = 8
"""A line of descent in more objects than this is written anew, in one."""
_CLAIM_LIMIT = 4096
_BATCH = 256
_FRESH = 24 * 3600
"""A blob that is younger than this may be of an entry that is still to come."""


class ObjectCache:
    """The cache at `url` (s3://BUCKET/PREFIX, gs://, az://, file:///DIRECTORY).

    `options`: `endpoint` and `region`, where the environment (AWS_ENDPOINT_URL, AWS_REGION, ...) does not say
    it. Credentials come from the environment or the machine, as for the vendors' own tools. `timeout` is in
    seconds: see ObjectStore. Nothing is connected before something is asked.
    """

    def __init__(
        self, url: str, options: Mapping[str, str], *, name: str = "", timeout: float = 15.0
    ) -> None:
        self.name = name or url
        self.claims = True
        self._objects = ObjectStore(url, options, name=self.name, timeout=timeout)

    def line(self, line: str) -> list[bytes]:
        """See RemoteCache."""
        bundles = self._bundles(line)
        found = self._objects.read_all(bundles, LINE_LIMIT)
        if None in found:  # somebody has put them together meanwhile, or one is too long
            found = self._objects.read_all(self._bundles(line), LINE_LIMIT)
        return merged(found)

    def extend(self, line: str, entries: Iterable[bytes]) -> None:
        """See RemoteCache."""
        added = list(entries)
        if not added:
            return
        self._bundle(line, added)
        bundles = self._bundles(line)
        if len(bundles) > _MOST_BUNDLES:
            one = self._bundle(line, self.line(line))
            self._objects.delete(name for name in bundles if name != one)

    def entry(self, key: str, signers: Iterable[str]) -> list[bytes]:
        """See RemoteCache."""
        wanted = list(signers)
        names = [f"entries/{key}/{each}" for each in wanted if each]
        if "" in wanted:
            names = [each.path for each in self._objects.listed(f"entries/{key}")]
        return [each for each in self._objects.read_all(names, ENTRY_LIMIT) if each is not None]

    def add(
        self, key: str, signer: str, entry: bytes, layer: Descriptor | None, *, replace: bool = False
    ) -> bool:
        """See RemoteCache."""
        name = f"entries/{key}/{signer}"
        if replace:
            self._objects.delete([name])
        return self._objects.create(name, entry)

    def has_blob(self, digest: Digest) -> bool:
        """See RemoteCache."""
        return self._objects.size(_blob_name(digest)) is not None

    def put_blob(self, blob: Descriptor, opener: Callable[[], BinaryIO]) -> bool:
        """See RemoteCache."""
        if self.has_blob(blob.digest):
            return False
        self._objects.send(_blob_name(blob.digest), checked(blob, opener))
        return True

    def blob(self, blob: Descriptor) -> Iterator[bytes]:
        """See RemoteCache."""
        return self._objects.chunks(_blob_name(blob.digest), blob.size)

    def claim(self, key: str, seconds: float) -> ObjectClaim | None:
        """See RemoteCache. How old a claim is, is measured by the store's clock against this machine's."""
        claims = self._claims(key)
        number = max(claims, default=-1)
        if number >= 0:
            data = self._objects.read(claims[number].path, _CLAIM_LIMIT)
            if data is not None and not _is_over(data, claims[number].age):
                return None
        claim = ObjectClaim(self, self._objects, key, number + 1, seconds)
        return claim if self._objects.create(claim.path, claim.content(released=False)) else None

    def stored(self) -> Iterator[Stored]:
        """See RemoteCache."""
        for each in self._objects.listed("entries"):
            name = _ENTRY.fullmatch(each.path)
            if name is not None:
                yield Stored(name[1], name[2], each.size, int(each.changed))

    def remove(self, key: str) -> int:
        """See RemoteCache."""
        names = [each.path for each in self._objects.listed(f"entries/{key}")]
        self._forget({key})
        self._objects.delete(names)
        return len(names)

    def collect(self, *, older: int | None, unused: int | None, dry_run: bool) -> Collected:
        """See RemoteCache. When an entry was used is not known here: its age counts."""
        limit = max((each for each in (older, unused) if each is not None), default=None)
        doomed: list[Stored] = []
        kept: list[Stored] = []
        for each in self.stored():
            (doomed if limit is not None and each.changed < limit else kept).append(each)
        blobs = self._unneeded(self._layers(kept))
        size = sum(each.size for each in doomed) + sum(blobs.values())
        if not dry_run:
            self._forget({each.key for each in doomed})
            self._objects.delete(f"entries/{each.key}/{each.signer}" for each in doomed)
            self._objects.delete(blobs)
            self._objects.delete(each.path for each in self._objects.listed("claims") if each.age > _FRESH)
        return Collected(len(doomed), len(blobs), size)

    def stop(self) -> None:
        """See RemoteCache."""
        self._objects.stop()

    def close(self) -> None:
        """See RemoteCache."""
        self._objects.close()

    def _bundles(self, line: str) -> list[str]:
        """The objects of a line of descent, newest first."""
        found = sorted(
            self._objects.listed(f"lines/{line}"), key=lambda each: (each.changed, each.path), reverse=True
        )
        return [each.path for each in found]

    def _bundle(self, line: str, entries: list[bytes]) -> str:
        data = joined(entries)
        name = f"lines/{line}/{hashlib.sha256(data).hexdigest()}"
        self._objects.create(name, data)
        return name

    def _forget(self, keys: set[str]) -> None:
        """Take what speaks of `keys` out of the lines of descent."""
        for each in list(self._objects.listed("lines")) if keys else ():
            entries = split(self._objects.read(each.path, LINE_LIMIT))
            left = without(entries, keys)
            if len(left) != len(entries):
                if left:
                    self._bundle(each.path.split("/")[-2], left)
                self._objects.delete([each.path])

    def _layers(self, stored: Sequence[Stored]) -> set[str]:
        """The hex names of the blobs that entries speak of; nothing of it is believed."""
        found: set[str] = set()
        for start in range(0, len(stored), _BATCH):
            names = [f"entries/{each.key}/{each.signer}" for each in stored[start : start + _BATCH]]
            for sealed in self._objects.read_all(names, ENTRY_LIMIT):
                found |= layers_of(sealed)
        return found

    def _unneeded(self, kept: set[str]) -> dict[str, int]:
        """The blobs that nothing in `kept` names and that are old enough, and their bytes."""
        return {
            each.path: each.size
            for each in self._objects.listed("blobs")
            if each.base not in kept and each.age > _FRESH
        }

    def _claims(self, key: str) -> dict[int, Listed]:
        """The claims of a step, by number."""
        found = self._objects.listed(f"claims/{key}")
        return {int(each.base): each for each in found if each.base.isdecimal()}


class ObjectClaim:
    """A claim, for its holder."""

    def __init__(
        self, cache: ObjectCache, objects: ObjectStore, key: str, number: int, seconds: float
    ) -> None:
        self.path = f"claims/{key}/{number:06}"
        self._cache = cache
        self._objects = objects
        self._key = key
        self._number = number
        self._seconds = seconds
        self._token = secrets.token_hex(8)
        self._released = False

    def content(self, *, released: bool) -> bytes:
        """What the claim's object holds."""
        said = {"holder": self._token, "seconds": self._seconds, "released": released}
        return json.dumps(said).encode()

    def renew(self) -> None:
        """See Claim."""
        if self._released or max(self._cache._claims(self._key), default=-1) != self._number:
            raise RemoteError(f"{self._cache.name}: somebody else has taken over the claim")
        self._objects.replace(self.path, self.content(released=False))

    def release(self) -> None:
        """See Claim."""
        if self._released:
            return
        self._released = True
        try:
            self._objects.replace(self.path, self.content(released=True))
        except RemoteError:
            return


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _is_over(data: bytes, age: float) -> bool:
    """Return whether a claim that was last written `age` seconds ago is nobody's any more."""
    try:
        said = json.loads(data)
        return bool(said["released"]) or age >= float(said["seconds"])
    except (ValueError, KeyError, TypeError):
        return age > _FRESH
