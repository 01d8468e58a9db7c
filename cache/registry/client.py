"""The distribution-spec's verbs for reading: resolve a name, get a manifest, stream a blob.

Nothing is believed before its digest is verified. Mirrors are asked first and the registry itself last; a
server that fails, lacks or corrupts something is passed over for the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.errors import DigestMismatch, FormatError, RegistryError
from cache.oci.digest import Digest
from cache.oci.spec import INDEX_TYPES, MANIFEST_TYPES, Descriptor, Index, Manifest
from cache.registry.auth import pull_scope
from cache.registry.credentials import Credentials, StoredCredentials
from cache.registry.documents import MANIFEST_LIMIT, check_layers, read_document
from cache.registry.download import Download
from cache.registry.endpoints import Endpoint, Registries
from cache.registry.failures import TransportFailure
from cache.registry.refusals import Attempt, refusal, summary
from cache.registry.retry import RetryPolicy
from cache.registry.session import Session
from cache.registry.transport import Response, Transport, UrllibTransport, read_bounded

if TYPE_CHECKING:
    from cache.oci.platform import Platform
    from cache.oci.reference import Reference
    from cache.registry.writer import RepositoryWriter

_ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
_DEEPEST_INDEX = 4


@dataclass(frozen=True, slots=True)
class Resolved:
    """The image that a reference means on a platform.

    `descriptor` and `data` are its manifest's; `named` is the digest of what the reference names directly: an
    index's, or the manifest's own.
    """

    descriptor: Descriptor
    manifest: Manifest
    data: bytes
    named: Digest


class RegistryClient:
    """Reads from registries. Safe to use from several threads.

    `credentials` default to what docker login and podman login have stored.
    """

    def __init__(
        self,
        transport: Transport | None = None,
        *,
        registries: Registries | None = None,
        credentials: Credentials | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._session = Session(
            transport or UrllibTransport(), credentials or StoredCredentials(), policy or RetryPolicy()
        )
        self._registries = registries or Registries()
        self._preferred: dict[str, Endpoint] = {}
        self._distrusted: set[tuple[str, Digest]] = set()

    def resolve(self, reference: Reference, platform: Platform) -> Resolved:
        """Return the image that `reference` means on `platform`, through indexes and manifest lists.

        Raises RegistryError (registry/not-found, unauthorized, denied, throttled, unreachable, platform) and
        FormatError.
        """
        descriptor, data, document = self.manifest(reference, reference.digest or reference.tag or "latest")
        named = descriptor.digest
        for _ in range(_DEEPEST_INDEX):
            if isinstance(document, Manifest):
                check_layers(document)
                return Resolved(descriptor, document, data, named)
            chosen = document.select(platform)
            if chosen is None:
                raise no_platform(reference, platform, document)
            descriptor, data, document = self.manifest(reference, chosen.digest)
        raise FormatError(f"{reference.familiar}: an index within an index, {_DEEPEST_INDEX} deep: refused")

    def manifest(self, reference: Reference, name: str) -> tuple[Descriptor, bytes, Manifest | Index]:
        """Return what tag or digest `name` holds in the repository of `reference`; a digest is verified."""
        wanted = Digest.parse(name) if ":" in name else None
        attempts: list[Attempt] = []
        for endpoint in self._endpoints(reference):
            try:
                result = self._manifest(endpoint, reference, name, wanted)
            except (TransportFailure, RegistryError, FormatError) as error:
                attempts.append(Attempt(endpoint, error))
            else:
                self._preferred[reference.name] = endpoint
                return result
        raise summary(f"{reference.name}{'@' if wanted else ':'}{name}", attempts)

    def blob(self, reference: Reference, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob of the repository of `reference`: chunks as they arrive.

        A connection that breaks is resumed where it broke, from the next server if need be. What was streamed
        is the blob only if the iterator ends without an exception: DigestMismatch means that the chunks must
        be thrown away; then the server that sent them is not asked for that blob again. Raises RegistryError
        too.
        """

        def distrust(endpoint: Endpoint) -> None:
            self._distrusted.add((endpoint.host, descriptor.digest))

        sources = self._sources(reference, descriptor)
        return Download(self._session, reference, descriptor, sources, distrust).chunks()

    def blob_bytes(self, reference: Reference, descriptor: Descriptor, limit: int) -> bytes:
        """Return a small blob whole. Raises as `blob`, and FormatError if it is larger than `limit` bytes."""
        if descriptor.size > limit:
            raise FormatError(f"blob {descriptor.digest} has {descriptor.size} bytes, more than {limit}")
        for _ in range(len(self._endpoints(reference)) + 1):
            try:
                return b"".join(self.blob(reference, descriptor))
            except DigestMismatch as error:
                failure = error
        raise failure

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether the repository of `reference`, in the registry itself, has a blob that we may read. Where
        that cannot be said it has not.
        """
        try:
            endpoint = self._registries.origin(reference.registry, reference)
            repository = endpoint.repository(reference.repository)
            path, scope = f"{repository}/blobs/{digest}", pull_scope(repository)
            with self._session.send(endpoint, "HEAD", path, scope=scope) as response:
                return response.status == 200
        except (TransportFailure, RegistryError):
            return False

    def tags(self, reference: Reference, count: int | None = None, after: str = "") -> Iterator[str]:
        """Yield the tags of the repository of `reference`, as the registry orders them; pages are of `count`
        or what is usual. Those up to `after` are left out by registries that can. Raises RegistryError and
        FormatError.
        """
        from cache.registry.tags import tags

        attempts: list[Attempt] = []
        begun = False
        # A mirror may have less: the registry itself knows.
        for endpoint in reversed(self._registries.endpoints(reference.registry, reference)):
            try:
                repository = endpoint.repository(reference.repository)
                for tag in tags(self._session, endpoint, repository, count=count, after=after):
                    begun = True
                    yield tag
            except (TransportFailure, RegistryError, FormatError) as error:
                attempts.append(Attempt(endpoint, error))
                if begun:
                    break
            else:
                return
        raise summary(f"the tags of {reference.name}", attempts)

    def referrers(self, reference: Reference, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what refers to the manifest `digest` in the repository of `reference`. Raises RegistryError
        and FormatError.
        """
        from cache.registry.referrers import referrers

        def fallback(tag: str) -> Index | None:
            try:
                document = self._manifest(endpoint, reference, tag, None)[2]
            except RegistryError as error:
                if error.code == "registry/not-found":
                    return None
                raise
            return document if isinstance(document, Index) else None

        attempts: list[Attempt] = []
        for endpoint in reversed(self._registries.endpoints(reference.registry, reference)):
            repository = endpoint.repository(reference.repository)
            try:
                return referrers(self._session, endpoint, repository, digest, fallback)
            except (TransportFailure, RegistryError, FormatError) as error:
                attempts.append(Attempt(endpoint, error))
        raise summary(f"the referrers of {reference.name}@{digest}", attempts)

    def writer(self, reference: Reference) -> RepositoryWriter:
        """Return what writes to the repository of `reference`. Raises RegistryError (registry/blocked)."""
        from cache.registry.writer import RepositoryWriter

        endpoint = self._registries.origin(reference.registry, reference)
        return RepositoryWriter(self._session, endpoint, reference, self)

    def stop(self) -> None:
        """End every transfer in every thread soon: they raise `session.Cancelled`.

        The client is of no use then.
        """
        self._session.stop()

    def close(self) -> None:
        self._session.close()

    def _endpoints(self, reference: Reference) -> list[Endpoint]:
        """Whoever gave the manifest comes first: what it names should be there, too."""
        endpoints = list(self._registries.endpoints(reference.registry, reference))
        preferred = self._preferred.get(reference.name)
        return sorted(endpoints, key=lambda endpoint: endpoint != preferred)

    def _sources(self, reference: Reference, descriptor: Descriptor) -> list[Endpoint]:
        """Who to ask for a blob. One that has sent garbage is asked again only if nobody else is left."""
        endpoints = self._endpoints(reference)
        trusted = [item for item in endpoints if (item.host, descriptor.digest) not in self._distrusted]
        return trusted or endpoints

    def _manifest(
        self, endpoint: Endpoint, reference: Reference, name: str, wanted: Digest | None
    ) -> tuple[Descriptor, bytes, Manifest | Index]:
        repository = endpoint.repository(reference.repository)
        with self._session.send(
            endpoint,
            "GET",
            f"{repository}/manifests/{name}",
            scope=pull_scope(repository),
            headers={"Accept": _ACCEPT},
        ) as response:
            if response.status != 200:
                raise refusal(endpoint, response)
            data = read_bounded(response, MANIFEST_LIMIT)
            declared = (response.header("Content-Type") or "").partition(";")[0].strip()
            expected = wanted or _announced(response)
        if len(data) > MANIFEST_LIMIT:
            raise FormatError(f"{endpoint} sends a manifest of more than {MANIFEST_LIMIT} bytes: refused")
        digest = _digest_of(data, expected)
        if expected is not None and digest != expected:
            raise DigestMismatch(f"{endpoint} sends another manifest than {expected}: {digest}")
        media_type, document = read_document(data, declared)
        return Descriptor(media_type, digest, len(data)), data, document


def _announced(response: Response) -> Digest | None:
    """The digest in Docker-Content-Digest, if it is one that we can check."""
    try:
        return Digest.parse(response.header("Docker-Content-Digest") or "")
    except FormatError:
        return None


def _digest_of(data: bytes, like: Digest | None) -> Digest:
    """The digest of `data`, by the algorithm of `like`."""
    algorithm = "sha256" if like is None else like.algorithm
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def no_platform(reference: Reference, platform: Platform, index: Index) -> RegistryError:
    """The error for an index that has nothing for `platform`."""
    offered = sorted({str(item.platform) for item in index.manifests if item.platform is not None})
    known = ", ".join(name for name in offered if not name.startswith("unknown"))
    return RegistryError(
        f"{reference.familiar} has no image for {platform}",
        code="registry/platform",
        hint=f"it has {known[:500]}" if known else None,
    )
