"""Writing to a repository: blobs that it lacks, manifests, names (distribution-spec, Push)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from cache.errors import DigestMismatch, FormatError, RegistryError
from cache.oci.digest import Digest
from cache.oci.spec import MEDIA_TYPE_INDEX, Descriptor, Index
from cache.registry.auth import delete_scope, push_scope
from cache.registry.blobupload import BlobUpload
from cache.registry.failures import TransportFailure
from cache.registry.referrers import fallback_tag
from cache.registry.refusals import Attempt, refusal, summary

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cache.oci.reference import Reference
    from cache.registry.client import RegistryClient
    from cache.registry.endpoints import Endpoint
    from cache.registry.session import Session


class RepositoryWriter:
    """Writes to the repository of `reference`, in the registry itself, never a mirror. Safe to use from
    several threads. `client` reads what is there.
    """

    def __init__(
        self, session: Session, endpoint: Endpoint, reference: Reference, client: RegistryClient
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._reference = reference
        self._client = client
        self._repository = endpoint.repository(reference.repository)
        self._scope = push_scope(self._repository)
        self._lock = threading.Lock()

    def has(self, digest: Digest) -> bool:
        """Whether the repository has a blob. Raises RegistryError."""
        path = f"{self._repository}/blobs/{digest}"
        with (
            self._failing(f"blob {digest} of {self._reference.name}"),
            self._session.send(self._endpoint, "HEAD", path, scope=self._scope) as response,
        ):
            if response.status == 200:
                return True
            if response.status == 404 or response.status >= 500:
                # Docker's registry, killed while it stored one, fails whenever it is asked for it; what is
                # sent anew makes it good.
                return False
            raise refusal(self._endpoint, response)

    def put_blob(
        self,
        descriptor: Descriptor,
        chunks: Callable[[], Iterator[bytes]],
        mounted: str | None = None,
    ) -> bool:
        """Send a blob; return False if it was there, in the repository `mounted`, and nothing was sent.

        Raises RegistryError, and what reading it raises.
        """
        try:
            with self._failing(f"blob {descriptor.digest} for {self._reference.name}"):
                return BlobUpload(
                    self._session,
                    self._endpoint,
                    self._repository,
                    descriptor,
                    partial(_readable, chunks),
                    mounted,
                ).run()
        except _Unreadable as unreadable:
            raise unreadable.error from None

    def put_manifest(self, name: str, media_type: str, data: bytes) -> bool:
        """Store a manifest or an index under a tag, or its digest; return whether the registry took note of
        its subject. Raises RegistryError, DigestMismatch.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._put_manifest(name, media_type, data)
            except RegistryError as error:
                # Docker's registry takes a blob that somebody else is sending too, at this instant, for
                # damaged.
                pause = self._session.policy.delay(attempt) if "DIGEST_INVALID" in error.message else None
                if pause is None:
                    raise
            self._session.wait(pause)

    def _put_manifest(self, name: str, media_type: str, data: bytes) -> bool:
        path = f"{self._repository}/manifests/{name}"
        headers = {"Content-Type": media_type, "Content-Length": str(len(data))}
        with (
            self._failing(f"{self._reference.name}{'@' if ':' in name else ':'}{name}"),
            self._session.send(
                self._endpoint, "PUT", path, scope=self._scope, headers=headers, body=data
            ) as response,
        ):
            if response.status not in (200, 201, 202):
                raise refusal(self._endpoint, response)
            said = response.header("Docker-Content-Digest")
            if said and said != Digest.of(data) and said.startswith("sha256:"):
                raise DigestMismatch(f"{self._endpoint} stored another manifest than was sent: {said[:100]}")
            return response.header("OCI-Subject") is not None

    def delete(self, what: str, digest: Digest) -> bool:
        """Delete one of the `manifests` (with all of its tags), or of the `blobs`; return False if it was not
        there. Raises RegistryError, also where the registry does not allow it.
        """
        path = f"{self._repository}/{what}/{digest}"
        scope = delete_scope(self._repository)
        with (
            self._failing(f"{what[:-1]} {digest} of {self._reference.name}"),
            self._session.send(self._endpoint, "DELETE", path, scope=scope) as response,
        ):
            if response.status in (200, 202, 204):
                return True
            if response.status == 404:
                return False
            if response.status == 405:
                raise RegistryError(
                    f"{self._endpoint} lets nothing be deleted",
                    code="registry/denied",
                    hint="docker-registry: storage.delete.enabled in its configuration",
                )
            raise refusal(self._endpoint, response)

    def put_referrer(self, subject: Digest, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest that refers to `subject`, as `descriptor` lists it. Where the registry has no API
        for that, the index under the subject's tag lists it. Raises RegistryError, FormatError.
        """
        if self.put_manifest(descriptor.digest, descriptor.media_type, data):
            return
        tag = fallback_tag(subject)
        with self._lock:
            index = self._listed(tag)
            if any(item.digest == descriptor.digest for item in index.manifests):
                return
            index = replace(index, manifests=(*index.manifests, descriptor))
            self.put_manifest(tag, index.media_type, index.to_json())

    def _listed(self, tag: str) -> Index:
        try:
            document = self._client.manifest(self._reference, tag)[2]
        except RegistryError as error:
            if error.code != "registry/not-found":
                raise
            return Index((), MEDIA_TYPE_INDEX)
        if not isinstance(document, Index):
            raise FormatError(f"{self._reference.name}:{tag} is no index of referrers")
        return document

    def _failing(self, what: str) -> AbstractContextManager[None]:
        return _Failing(self._endpoint, what)


class _Unreadable(Exception):
    """What is sent cannot be read: no fault of the registry that it is sent to."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _readable(chunks: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    try:
        yield from chunks()
    except Exception as error:
        raise _Unreadable(error) from error


class _Failing:
    """A context in which a TransportFailure becomes the RegistryError that says who failed, and with what; a
    RegistryError says it, too.
    """

    def __init__(self, endpoint: Endpoint, what: str) -> None:
        self._endpoint = endpoint
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TransportFailure | RegistryError):
            found = summary(self._what, [Attempt(self._endpoint, error)])
            found.message = found.message.replace(" cannot be had: ", " cannot be sent: ")
            found.args = (found.message,)
            raise found from None
