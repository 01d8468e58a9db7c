"""Streaming one blob: verified as it arrives, resumed where it broke, from another server if need be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from cache.errors import CacheError, DigestMismatch, RegistryError
from cache.registry.auth import pull_scope
from cache.registry.failures import TransportFailure
from cache.registry.refusals import Attempt, refusal, summary

if TYPE_CHECKING:
    from cache.oci.reference import Reference
    from cache.oci.spec import Descriptor
    from cache.registry.endpoints import Endpoint
    from cache.registry.session import Session
    from cache.registry.transport import Response

_PROGRESS = 64 * 1024
"""Bytes that a connection must have brought for its end not to count as one more failure in a row."""


class Download:
    """A blob on its way. One use: iterate over `chunks` once."""

    def __init__(
        self,
        session: Session,
        reference: Reference,
        descriptor: Descriptor,
        sources: Sequence[Endpoint],
        distrust: Callable[[Endpoint], None],
    ) -> None:
        self._session = session
        self._reference = reference
        self._descriptor = descriptor
        self._sources = sources
        self._distrust = distrust
        self._hash = hashlib.new(descriptor.digest.algorithm)
        self._done = 0
        self._senders: set[Endpoint] = set()

    def chunks(self) -> Iterator[bytes]:
        """Yield the blob's bytes; raises DigestMismatch at the end if they were not, or RegistryError."""
        attempts: list[Attempt] = []
        for endpoint in self._sources:
            try:
                yield from self._from(endpoint)
            except (TransportFailure, RegistryError) as error:
                attempts.append(Attempt(endpoint, error))
            else:
                self._verify()
                return
        raise self._summary(attempts)

    def _from(self, endpoint: Endpoint) -> Iterator[bytes]:
        """Yield what is missing from `endpoint`, over as many connections as it takes."""
        failures = 0
        while self._done < self._descriptor.size or not self._senders:
            start = self._done
            try:
                yield from self._connection(endpoint)
                if self._done < self._descriptor.size:  # a short body that calls itself whole
                    raise TransportFailure("cut", "it sends less than the whole blob")
            except TransportFailure as failure:
                failures = 1 if self._done - start >= _PROGRESS else failures + 1
                retriable = failure.transient and failure.kind != "gone"  # the session has waited for it
                pause = self._session.policy.delay(failures) if retriable else None
                if pause is None:
                    raise
                self._session.wait(pause)

    def _connection(self, endpoint: Endpoint) -> Iterator[bytes]:
        repository = endpoint.repository(self._reference.repository)
        headers = {"Range": f"bytes={self._done}-"} if self._done else {}
        response = self._session.send(
            endpoint,
            "GET",
            f"{repository}/blobs/{self._descriptor.digest}",
            scope=pull_scope(repository),
            headers=headers,
        )
        with response:
            skip = self._check_start(endpoint, response)
            self._senders.add(endpoint)
            self._session.watch(response)
            try:
                for chunk in response.chunks():
                    self._session.wait(0)
                    fresh = chunk[skip:]
                    skip = max(0, skip - len(chunk))
                    if fresh:
                        self._take(fresh)
                        yield fresh
            finally:
                self._session.forget(response)

    def _check_start(self, endpoint: Endpoint, response: Response) -> int:
        """Return how many bytes of the body are known already: all, from a server that ignores Range."""
        if response.status == 200:
            return self._done
        if response.status == 206 and self._done:
            start = (response.header("Content-Range") or "").removeprefix("bytes ").partition("-")[0]
            if start == str(self._done):
                return 0
            raise TransportFailure("other", "it resumes at another place than asked for")
        raise refusal(endpoint, response)

    def _take(self, chunk: bytes) -> None:
        self._done += len(chunk)
        if self._done > self._descriptor.size:
            raise self._mismatch(
                f"it is longer than the {self._descriptor.size} bytes that its manifest gives"
            )
        self._hash.update(chunk)

    def _verify(self) -> None:
        found = f"{self._descriptor.digest.algorithm}:{self._hash.hexdigest()}"
        if found != self._descriptor.digest:
            raise self._mismatch(f"what was sent is {found}")

    def _mismatch(self, reason: str) -> DigestMismatch:
        for sender in self._senders:
            self._distrust(sender)
        hosts = ", ".join(sorted(str(sender) for sender in self._senders))
        return DigestMismatch(
            f"blob {self._descriptor.digest} of {self._reference.name} came corrupted from {hosts}: {reason}",
            hint="the registry, or something on the way to it, alters content",
        )

    def _summary(self, attempts: Sequence[Attempt]) -> CacheError:
        return summary(f"blob {self._descriptor.digest} of {self._reference.name}", attempts)
