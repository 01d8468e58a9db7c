"""A shared cache in an object store: S3 and what speaks like it, Google's, Azure's, or a directory, by the
library obstore, which is imported when something is asked.

    blobs/sha256/<hex>            compressed layers, by digest
    entries/<key>/<signer>        sealed entries
    lines/<line>/<sha256>         what builds of one line of descent have met: sealed entries, one a line
    claims/<key>/<number>         who runs a step now, and until when; the highest number counts

Entries and claims are put on the condition that there is none yet, which S3 (If-None-Match), Google and Azure
all know: of two who come at once, one has come first.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cache.entries import Entry, key_of
from cache.envelope import Envelope
from cache.errors import FormatError
from cache.remote import ENTRY_LIMIT, LINE_LIMIT, Collected, RemoteError, Stored
from cache.remotes.sending import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, BinaryIO

    from cache.oci.digest import Digest
    from cache.oci.spec import Descriptor

_NAME = re.compile("[0-9a-f]{64}")
_CHUNK = 1 << 20
_MOST_BUNDLES = 8
"""A line of descent in more objects than this is written anew, in one."""
_AT_ONCE = 8
_FRESH = 24 * 3600
"""A blob that is younger than this may be of an entry that is still to come."""


class ObjectCache:
    """The cache at `url` (s3://BUCKET/PREFIX, gs://, az://, file:///DIRECTORY).

    `options`: `endpoint` and `region`, where the environment (AWS_ENDPOINT_URL, AWS_REGION, …) does not say
    it. Credentials come from the environment or the machine, as for the vendors' own tools. `timeout` is in
    seconds.
    """

    def __init__(
        self, url: str, options: Mapping[str, str], *, name: str = "", timeout: float = 15.0
    ) -> None:
        self.name = name or url
        self.claims = True
        self._url = url
        self._options = options
        self._timeout = timeout
        self._store: Any = None
        self._opening = threading.Lock()
        self._stopped = threading.Event()

    def line(self, line: str) -> list[bytes]:
        """See RemoteCache."""
        with self._reaching():
            found: dict[bytes, None] = {}
            left = LINE_LIMIT
            for data in self._read_all(self._bundles(line)):
                if data is not None and len(data) <= left:
                    left -= len(data)
                    found.update(dict.fromkeys(each for each in data.split(b"\n") if each))
            return list(found)

    def extend(self, line: str, entries: Iterable[bytes]) -> None:
        """See RemoteCache."""
        added = list(entries)
        if not added:
            return
        with self._reaching():
            self._bundle(line, added)
            bundles = self._bundles(line)
            if len(bundles) > _MOST_BUNDLES:
                merged = self._bundle(line, self.line(line))
                self._delete(name for name in bundles if name != merged)

    def entry(self, key: str, signers: Iterable[str]) -> list[bytes]:
        """See RemoteCache."""
        with self._reaching():
            wanted = list(signers)
            names = [f"entries/{key}/{each}" for each in wanted if each]
            if "" in wanted:
                names = [each["path"] for each in self._list(f"entries/{key}/")]
            return [each for each in self._read_all(names) if each is not None and len(each) <= ENTRY_LIMIT]

    def add(self, key: str, signer: str, entry: bytes, layer: Descriptor | None) -> bool:
        """See RemoteCache."""
        with self._reaching():
            return self._create(f"entries/{key}/{signer}", entry)

    def has_blob(self, digest: Digest) -> bool:
        """See RemoteCache."""
        import obstore

        with self._reaching():
            try:
                obstore.head(self._open(), _blob_name(digest))
            except FileNotFoundError:
                return False
            return True

    def put_blob(self, blob: Descriptor, opener: Callable[[], BinaryIO]) -> bool:
        """See RemoteCache."""
        import obstore

        if self.has_blob(blob.digest):
            return False
        with self._reaching():
            obstore.put(self._open(), _blob_name(blob.digest), self._sent(blob, opener), use_multipart=True)
            return True

    def blob(self, blob: Descriptor) -> Iterator[bytes]:
        """See RemoteCache."""
        import obstore

        with self._reaching():
            left = blob.size
            for chunk in obstore.get(self._open(), _blob_name(blob.digest)).stream(min_chunk_size=_CHUNK):
                if self._stopped.is_set():
                    raise RemoteError(f"{self.name}: stopped")
                data = bytes(chunk)[:left]
                left -= len(data)
                yield data

    def claim(self, key: str, seconds: float) -> ObjectClaim | None:
        """See RemoteCache. How old a claim is, is measured by the store's clock against this machine's."""
        with self._reaching():
            numbers = self._claims(key)
            number = max(numbers, default=-1)
            if number >= 0:
                data = self._read(f"claims/{key}/{number:06}")
                if data is not None and not _is_over(data, numbers[number]):
                    return None
            claim = ObjectClaim(self, key, number + 1, seconds)
            return claim if self._create(claim.name, claim.content(released=False)) else None

    def stored(self) -> Iterator[Stored]:
        """See RemoteCache."""
        with self._reaching():
            for each in self._list("entries/"):
                key, signer = each["path"].split("/")[-2:]
                if _NAME.fullmatch(key):
                    yield Stored(key, signer, each["size"], int(each["last_modified"].timestamp()))

    def remove(self, key: str) -> int:
        """See RemoteCache."""
        with self._reaching():
            names = [each["path"] for each in self._list(f"entries/{key}/")]
            self._forget({key})
            self._delete(names)
            return len(names)

    def collect(self, *, older: int | None, unused: int | None, dry_run: bool) -> Collected:
        """See RemoteCache. When an entry was used is not known here: its age counts."""
        limit = max((each for each in (older, unused) if each is not None), default=None)
        with self._reaching():
            doomed, kept = [], set()
            for each in list(self.stored()):
                if limit is not None and each.changed < limit:
                    doomed.append(each)
                else:
                    kept |= self._layers(each)
            blobs = self._unneeded(kept)
            size = sum(each.size for each in doomed) + sum(blobs.values())
            if not dry_run:
                self._forget({each.key for each in doomed})
                self._delete(f"entries/{each.key}/{each.signer}" for each in doomed)
                self._delete(blobs)
                self._delete(
                    each["path"] for each in self._list("claims/") if _age(each["last_modified"]) > _FRESH
                )
            return Collected(len(doomed), len(blobs), size)

    def stop(self) -> None:
        """See RemoteCache."""
        self._stopped.set()

    def close(self) -> None:
        """See RemoteCache."""
        self._store = None

    def _open(self) -> Any:
        with self._opening:
            if self._store is None:
                self._store = self._connect()
            return self._store

    def _connect(self) -> Any:
        from datetime import timedelta

        try:
            from obstore.store import LocalStore, from_url
        except ImportError:
            raise RemoteError(
                f"{self.name}: object stores take the package obstore",
                hint="pip install 'pybuild[object]'",
                code="cache/obstore",
            ) from None
        if self._url.startswith("file://"):
            return LocalStore(self._url.removeprefix("file://"), mkdir=True)
        settings: dict[str, Any] = dict(self._options)
        endpoint = self._options.get("endpoint", "")
        return from_url(
            self._url,
            **settings,
            client_options={
                "timeout": f"{self._timeout:g}s",
                "connect_timeout": f"{min(self._timeout, 5):g}s",
                "allow_http": endpoint.startswith("http://") or _environment_is_plain(),
            },
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=2 * self._timeout)},
        )

    def _sent(self, blob: Descriptor, opener: Callable[[], BinaryIO]) -> Iterator[bytes]:
        for chunk in checked(blob, opener):
            if self._stopped.is_set():
                raise RemoteError(f"{self.name}: stopped")
            yield chunk

    def _create(self, name: str, data: bytes) -> bool:
        """Put an object unless there is one; return whether there was none."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            obstore.put(self._open(), name, data, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def _replace(self, name: str, data: bytes) -> None:
        import obstore

        with self._reaching():
            obstore.put(self._open(), name, data, use_multipart=False)

    def _read(self, name: str) -> bytes | None:
        import obstore

        try:
            return bytes(obstore.get(self._open(), name).bytes())
        except FileNotFoundError:
            return None

    def _read_all(self, names: list[str]) -> list[bytes | None]:
        """Return what the objects hold, as soon as the slowest has come."""
        if len(names) < 2:
            return [self._read(name) for name in names]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self._read, names))

    def _list(self, prefix: str) -> Iterator[Any]:
        import obstore

        for page in obstore.list(self._open(), prefix=prefix.rstrip("/")):
            yield from page

    def _delete(self, names: Iterable[str]) -> None:
        import obstore

        for name in list(names):
            try:
                obstore.delete(self._open(), name)
            except FileNotFoundError:
                continue

    def _bundles(self, line: str) -> list[str]:
        """The objects of a line of descent, newest first."""
        found = sorted(
            self._list(f"lines/{line}/"), key=lambda each: (each["last_modified"], each["path"]), reverse=True
        )
        return [each["path"] for each in found]

    def _bundle(self, line: str, entries: list[bytes]) -> str:
        data = b"".join(entry + b"\n" for entry in entries)
        name = f"lines/{line}/{hashlib.sha256(data).hexdigest()}"
        self._create(name, data)
        return name

    def _forget(self, keys: set[str]) -> None:
        """Take what speaks of `keys` out of the lines of descent."""
        for each in list(self._list("lines/")):
            name = each["path"]
            data = self._read(name)
            entries = [] if data is None else [entry for entry in data.split(b"\n") if entry]
            left = [entry for entry in entries if key_of(entry) not in keys]
            if len(left) != len(entries):
                if left:
                    self._bundle(name.split("/")[-2], left)
                self._delete([name])

    def _layers(self, stored: Stored) -> set[str]:
        """The hex names of the blobs that an entry speaks of; nothing of it is believed."""
        try:
            sealed = self._read(f"entries/{stored.key}/{stored.signer}") or b""
            entry = Entry.from_json(Envelope.from_json(sealed).payload)
        except FormatError:
            return set()
        return {each.digest.hex for each in entry.layers}

    def _unneeded(self, kept: set[str]) -> dict[str, int]:
        """The blobs that nothing in `kept` names and that are old enough, and their bytes."""
        return {
            each["path"]: each["size"]
            for each in self._list("blobs/")
            if each["path"].rpartition("/")[2] not in kept and _age(each["last_modified"]) > _FRESH
        }

    def _claims(self, key: str) -> dict[int, Any]:
        """Return the numbers of the claims of a step, and when each was last written."""
        found = {}
        for each in self._list(f"claims/{key}/"):
            number = each["path"].rpartition("/")[2]
            if number.isdecimal():
                found[int(number)] = each["last_modified"]
        return found

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what obstore raises, which has no base that it always keeps to, into a RemoteError."""
        try:
            yield
        except (RemoteError, GeneratorExit):
            raise
        except Exception as error:
            reason = (str(error).split("\n") or [""])[0][:300] or type(error).__name__
            raise RemoteError(f"{self.name}: {reason}") from None


class ObjectClaim:
    """A claim, for its holder."""

    def __init__(self, cache: ObjectCache, key: str, number: int, seconds: float) -> None:
        self.name = f"claims/{key}/{number:06}"
        self._cache = cache
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
        cache = self._cache
        with cache._reaching():
            if self._released or max(cache._claims(self._key), default=-1) != self._number:
                raise RemoteError(f"{cache.name}: somebody else has taken over the claim")
        cache._replace(self.name, self.content(released=False))

    def release(self) -> None:
        """See Claim."""
        if self._released:
            return
        self._released = True
        try:
            self._cache._replace(self.name, self.content(released=True))
        except RemoteError:
            return


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _is_over(data: bytes, written: Any) -> bool:
    try:
        said = json.loads(data)
        return bool(said["released"]) or _age(written) >= float(said["seconds"])
    except (ValueError, KeyError, TypeError):
        return _age(written) > _FRESH


def _age(written: Any) -> float:
    """Seconds since a time that the store tells."""
    return time.time() - float(written.timestamp())


def _environment_is_plain() -> bool:
    import os

    return any(
        os.environ.get(name, "").startswith("http://") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    )
