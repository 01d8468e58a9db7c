"""Files behind URLs: fetched into the store's blobs, asked for again only as far as the server says that they
changed.

As BuildKit has it (source/http): what a URL gave is remembered with its ETag and Last-Modified, and the next
build asks with If-None-Match (where there is no ETag, If-Modified-Since). Some servers give an ETag and
answer 200 all the same: then the body is left alone if the ETag is the known one. A body that has a known
checksum is not asked for at all. The time of a file is its Last-Modified, else 0.

A connection that breaks is resumed where the server can do that, and the checksum is made of all that came.
Credentials of a URL are sent to its own origin alone, and stored nowhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event, Lock
from typing import TYPE_CHECKING

from builder.errors import FetchError
from cache.errors import FormatError
from cache.oci.digest import Digest
from cache.registry.failures import TransportFailure
from cache.registry.retry import TRANSIENT, RetryPolicy, retry_after

if TYPE_CHECKING:
    from io import FileIO

    from builder.bases.transfers import Transfers
    from builder.events import Emit
    from builder.parallel import Cancellation
    from builder.remotes.address import HttpAddress
    from cache.blobs import BlobWriter
    from cache.registry.transport import Response, UrllibTransport
    from cache.store import Store

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MOST_REDIRECTS = 10
_REFUSALS = {401: "it wants credentials", 403: "it is forbidden", 404: "it is not there", 410: "it is gone"}
_PROGRESS = 64 * 1024
"""Bytes that a connection must have brought for its end not to count as one more failure in a row."""

Authorization = Callable[[str], "str | None"]
"""From a host's name to the Authorization header for it, None where there is none."""


@dataclass(frozen=True, slots=True)
class Download:
    """A file that stands among the store's blobs. `modified` in seconds since 1970. `etag` is "" where
    the server gave none.
    """

    digest: Digest
    size: int
    modified: int
    etag: str = ""
    last_modified: str = ""


class _Again(Exception):
    """The server is busy: come back in that many seconds, None where it does not say."""

    def __init__(self, reason: str, seconds: float | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seconds = seconds


class Downloads:
    """The downloads of one build: what it has asked for once, it does not ask for again."""

    def __init__(
        self,
        store: Store,
        emit: Emit,
        *,
        environ: Mapping[str, str] = os.environ,
        policy: RetryPolicy = RetryPolicy(),  # noqa: B008 - it is frozen
        authorization: Authorization | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        """`cancellation` ends a download that is under way."""
        self._store = store
        self._cancellation = cancellation
        self._lock = Lock()
        self._emit = emit
        self._environ = environ
        self._policy = policy
        self._authorization = authorization
        self._opened: UrllibTransport | None = None
        self._done: dict[tuple[str, str], Download] = {}

    def known(self, address: HttpAddress) -> Digest | None:
        """Return the sha256 digest of what has the address's checksum, None if that takes a look at it.
        Nothing is asked.
        """
        algorithm = address.checksum.partition(":")[0]
        if algorithm == "sha256":
            return Digest(address.checksum)
        found = self._store.memo.get("checksum", address.checksum) if algorithm else None
        return None if found is None else Digest(found.decode())

    def fetch(self, address: HttpAddress, *, says: str = "--checksum") -> Download:
        """Return the file, in the store by then. `says`: who it is that asks for the address's checksum.

        Raises FetchError (fetch/unreachable, fetch/status, fetch/redirect, fetch/checksum), StoreError.
        """
        key = (address.url, address.checksum)
        found = self._done.get(key) or self._stored(address)
        if found is None:
            # Of two builds that want the same, one fetches it.
            with self._store.lock(f"http {address.shown}"):
                found = self._stored(address) or self._fetch(address, says)
        self._done[key] = found
        return found

    def open(self, download: Download) -> FileIO:
        """Return the file, open for reading, its bytes verified. Raises FetchError if it is gone from the
        store.
        """
        file = self._store.blobs.open(download.digest)
        if file is None:
            raise FetchError(f"{download.digest} is no longer in the store", hint="build again")
        return file

    def close(self) -> None:
        """Let go of connections."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _stored(self, address: HttpAddress) -> Download | None:
        """What has the checksum, if it is here: nobody need be asked for it."""
        digest = self.known(address)
        known = self._remembered(address)
        if digest is None or not self._is_here(digest):
            return None
        if known is not None and known.digest == digest:
            return known
        return Download(digest, os.path.getsize(self._store.blobs.path_of(digest)), 0)

    def _is_here(self, digest: Digest) -> bool:
        file = self._store.blobs.open(digest)
        if file is None:
            return False
        file.close()
        return True

    def _remembered(self, address: HttpAddress) -> Download | None:
        value = self._store.receipts.get(f"http {address.shown}")
        if value is None:
            return None
        try:
            told = json.loads(value)
            return replace(Download(**told), digest=Digest.parse(told["digest"]))
        except (ValueError, TypeError, KeyError, FormatError):
            return None

    def _fetch(self, address: HttpAddress, says: str) -> Download:
        known = self._remembered(address)
        if address.checksum or known is None or not self._is_here(known.digest):
            known = None
        body = _Body(self._store, address)
        try:
            found = self._attempts(address, known, body)
            if found is None:
                found = body.finish(says)
                value = json.dumps({name: getattr(found, name) for name in Download.__slots__})
                self._store.receipts.put(f"http {address.shown}", value.encode())
        finally:
            body.close()
        return found

    def _attempts(self, address: HttpAddress, known: Download | None, body: _Body) -> Download | None:
        """Fetch into `body`, over as many connections as it takes; or return `known`, if it is that still."""
        from builder.bases.transfers import Transfers

        transfers = Transfers(self._emit)
        failures = 0
        while True:
            before = body.size
            try:
                return self._attempt(address, known, body, transfers)
            except _Again as again:
                failures += 1
                reason, pause = again.reason, self._policy.delay(failures, again.seconds)
            except TransportFailure as failure:
                failures = 1 if body.size - before >= _PROGRESS else failures + 1
                reason = failure.reason
                pause = self._policy.delay(failures) if failure.transient else None
            if pause is None:
                raise FetchError(
                    f"cannot fetch {address.shown}: {reason}",
                    code="fetch/unreachable",
                    hint="with ADD --checksum a file that is in the store already is found without a network",
                )
            self._wait(pause)

    def _attempt(
        self, address: HttpAddress, known: Download | None, body: _Body, transfers: Transfers
    ) -> Download | None:
        headers = body.headers() or _conditions(known)
        with self._follow(address, headers) as response:
            if known is not None and _unchanged(known, response, bool(body.size)):
                return known
            body.begin(response)
            name = f"http {address.shown}"
            transfers.start(name, address.shown, body.total, lambda: body.size)
            with ending(self._cancellation, response.abort):
                for chunk in response.chunks():
                    body.write(chunk)
                    transfers.poll()
            body.check_end()
            transfers.finish(name)
        return None

    def _wait(self, seconds: float) -> None:
        over = Event()
        with ending(self._cancellation, over.set):
            over.wait(seconds)

    def _follow(self, address: HttpAddress, headers: Mapping[str, str]) -> Response:
        """Send the request, and follow redirects. Raises _Again, TransportFailure, FetchError."""
        from urllib.parse import urljoin, urlsplit

        url, own = _without_credentials(address.url)
        origin = urlsplit(url)[:2]
        for _ in range(_MOST_REDIRECTS):
            response = self._send(url, headers, own if urlsplit(url)[:2] == origin else None)
            location = response.header("Location")
            if response.status not in _REDIRECTS or not location:
                return self._accept(address, response)
            response.close()
            target = urljoin(url, location)
            _check_redirect(address, url, target)
            url = target
        raise FetchError(f"{address.shown} redirects without end", code="fetch/redirect")

    def _send(self, url: str, headers: Mapping[str, str], own: str | None) -> Response:
        from urllib.parse import urlsplit

        from cache.registry.transport import Request

        host = urlsplit(url).hostname or ""
        header = own or (self._authorization(host) if self._authorization is not None else None)
        return self._transport().send(
            Request("GET", url, {**headers, **({"Authorization": header} if header else {})})
        )

    def _accept(self, address: HttpAddress, response: Response) -> Response:
        status = response.status
        if status in (200, 203, 206, 304, 416):
            return response
        again = retry_after(response.header("Retry-After"), time.time())
        response.close()
        if status in TRANSIENT:
            raise _Again(f"the server answers with status {status}", again)
        told = _REFUSALS.get(status, "it is no file")
        raise FetchError(f"cannot fetch {address.shown}: {told} (status {status})", code="fetch/status")

    def _transport(self) -> UrllibTransport:
        with self._lock:
            if self._opened is None:
                from builder.version import VERSION
                from cache.registry.transport import UrllibTransport

                self._opened = UrllibTransport(user_agent=f"pybuild/{VERSION}", environ=self._environ)
            return self._opened


@contextmanager
def ending(cancellation: Cancellation | None, end: Callable[[], None]) -> Iterator[None]:
    """Have `end` called if the build is to end while this is entered. Raises Cancelled then, whatever came of
    what was ended."""
    if cancellation is None:
        yield
        return
    try:
        with cancellation.ending(end):
            yield
    finally:
        cancellation.check()


class _Body:
    """A body on its way into the store. A part of it can wait for another connection to bring the rest."""

    def __init__(self, store: Store, address: HttpAddress) -> None:
        self._store = store
        self._address = address
        self._writer: BlobWriter | None = None
        self._algorithm = address.checksum.partition(":")[0]
        self._hash = hashlib.new(self._algorithm or "sha256")
        self._etag = self._last_modified = ""
        self.total: int | None = None

    @property
    def size(self) -> int:
        """The bytes that are here."""
        return self._writer.size if self._writer is not None else 0

    def headers(self) -> dict[str, str]:
        """Return what asks for the rest alone, {} if that cannot be. Then what is here is dropped."""
        validator = self._etag if not self._etag.startswith("W/") else ""
        validator = validator or self._last_modified
        if not self.size or not validator:
            self.close()
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": validator}

    def begin(self, response: Response) -> None:
        """Take the answer's headers. Raises TransportFailure if it is not what is missing."""
        length = response.header("Content-Length") or ""
        if response.status == 206:
            start = (response.header("Content-Range") or "").removeprefix("bytes ").partition("-")[0]
            if not self.size or start != str(self.size):
                self.close()
                raise TransportFailure("cut", "it resumes at another place than asked for")
        elif response.status == 416 or response.status == 304:
            self.close()
            raise TransportFailure("cut", f"it answers with status {response.status}")
        else:
            self.close()
            self._writer = self._store.blobs.writer()
            self._hash = hashlib.new(self._algorithm or "sha256")
            self._etag = response.header("ETag") or ""
            self._last_modified = response.header("Last-Modified") or ""
        self.total = self.size + int(length) if length.isdecimal() else None

    def write(self, chunk: bytes) -> None:
        """Append what came. Raises StoreError."""
        assert self._writer is not None
        self._writer.write(chunk)
        if self._algorithm not in ("", "sha256"):
            self._hash.update(chunk)

    def check_end(self) -> None:
        """Raise TransportFailure if there is less than the server announced."""
        if self.total is not None and self.size < self.total:
            raise TransportFailure("cut", "it sends less than it announced")

    def finish(self, says: str) -> Download:
        """Put the file in its place. Raises FetchError if it has not the checksum that it has to have."""
        assert self._writer is not None
        wanted = self._address.checksum
        found = str(self._writer.digest)
        if self._algorithm not in ("", "sha256"):
            found = f"{self._algorithm}:{self._hash.hexdigest()}"
        if wanted and found != wanted:
            raise FetchError(
                f"{self._address.shown} is not what {says} says:\nexpected {wanted}\nreceived {found}",
                code="fetch/checksum",
                hint="it was changed, on the server or on the way, or the digest is that of another file",
            )
        size = self.size
        digest = self._writer.commit()
        if wanted and found != digest:
            self._store.memo.put("checksum", found, digest.encode())
        return Download(digest, size, _seconds(self._last_modified), self._etag, self._last_modified)

    def close(self) -> None:
        """Drop what is here, unless it is in its place."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.discard()


def _conditions(known: Download | None) -> dict[str, str]:
    if known is None:
        return {}
    if known.etag:
        return {"If-None-Match": known.etag}
    return {"If-Modified-Since": known.last_modified} if known.last_modified else {}


def _unchanged(known: Download, response: Response, resumed: bool) -> bool:
    if response.status == 304:
        return not resumed
    # Weakly compared, as for a GET (RFC 9110, 13.1.2), and as BuildKit does.
    etag = (response.header("ETag") or "").removeprefix("W/")
    return response.status == 200 and bool(etag) and etag == known.etag.removeprefix("W/")


def _check_redirect(address: HttpAddress, url: str, target: str) -> None:
    from urllib.parse import urlsplit

    from builder.remotes.address import redact

    to = urlsplit(target)
    if to.scheme not in ("http", "https") or not to.hostname:
        raise FetchError(f"{address.shown} redirects to {redact(target)[:200]!r}", code="fetch/redirect")
    if url.startswith("https:") and to.scheme == "http" and not address.checksum:
        raise FetchError(
            f"{address.shown} redirects from https to plain http ({to.hostname})",
            code="fetch/redirect",
            hint="with --checksum=sha256:… it does not matter which way the file comes",
        )


def _without_credentials(url: str) -> tuple[str, str | None]:
    """Part the URL from its user and password; return it, and the Authorization header that they make."""
    from urllib.parse import unquote, urlsplit, urlunsplit

    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    import base64

    user, _, password = userinfo.partition(":")
    token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), f"Basic {token}"


def _seconds(date: str) -> int:
    from email.utils import parsedate_to_datetime

    try:
        return max(0, int(parsedate_to_datetime(date).timestamp()))
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0
