"""Sending one blob (distribution-spec, Pushing blobs): streamed, taken up where it broke, mounted if it
can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit, urlunsplit

from cache.errors import RegistryError
from cache.registry.auth import push_scope
from cache.registry.failures import TransportFailure
from cache.registry.refusals import refusal
from cache.registry.retry import TRANSIENT

if TYPE_CHECKING:
    from cache.oci.spec import Descriptor
    from cache.registry.endpoints import Endpoint
    from cache.registry.session import Session
    from cache.registry.transport import Response


class BlobUpload:
    """A blob on its way to a repository. One use."""

    def __init__(
        self,
        session: Session,
        endpoint: Endpoint,
        repository: str,
        descriptor: Descriptor,
        chunks: Callable[[], Iterator[bytes]],
        mounted: str | None = None,
    ) -> None:
        """`chunks` begins to read the blob, from its beginning each time; `mounted` is a repository of the
        same registry that has it.
        """
        self._session = session
        self._endpoint = endpoint
        self._repository = repository
        self._descriptor = descriptor
        self._chunks = chunks
        self._mounted = mounted
        self._scope = push_scope(repository, mounted)
        self._url = ""
        self._finishing = session.policy.finishing

    def run(self) -> bool:
        """Send the blob; return False if it was mounted, and nothing was sent.

        Raises TransportFailure, RegistryError, and what reading the blob raises.
        """
        if not self._begin_or_mount():
            return False
        attempt = 0
        while True:
            attempt += 1
            try:
                self._send()
                self._finish()
                return True
            except TransportFailure as failure:
                pause = self._session.policy.delay(attempt) if failure.transient else None
                if pause is None:
                    raise
                self._session.wait(pause)
                self._mounted = None
                self._begin()

    def _begin_or_mount(self) -> bool:
        """Begin; return False if the blob was mounted. Whoever may not read from there may write here
        still.
        """
        try:
            return self._begin()
        except RegistryError:
            if self._mounted is None:
                raise
        self._mounted = None
        self._scope = push_scope(self._repository)
        return self._begin()

    def _begin(self) -> bool:
        query = {} if self._mounted is None else {"mount": self._descriptor.digest, "from": self._mounted}
        path = f"{self._repository}/blobs/uploads/" + (f"?{urlencode(query)}" if query else "")
        headers = {"Content-Length": "0"}
        with self._session.send(self._endpoint, "POST", path, scope=self._scope, headers=headers) as response:
            if response.status == 201:
                return False
            if response.status != 202:
                raise refusal(self._endpoint, response)
            self._follow(response)
        return True

    def _send(self) -> None:
        size = str(self._descriptor.size)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": size}
        with self._session.send_body(
            self._endpoint,
            "PATCH",
            self._url,
            self._body,
            scope=self._scope,
            headers=headers,
            read=self._finishing,
        ) as response:
            self._check(response, 202, 201, 204)
            self._follow(response)

    def _finish(self) -> None:
        parts = urlsplit(self._url)
        digest = urlencode({"digest": self._descriptor.digest})
        url = urlunsplit(parts._replace(query=f"{parts.query}&{digest}" if parts.query else digest))
        headers = {"Content-Length": "0"}
        with self._session.send_body(
            self._endpoint,
            "PUT",
            url,
            None,
            scope=self._scope,
            headers=headers,
            read=self._finishing,
        ) as response:
            self._check(response, 201, 204)

    def _body(self) -> Iterator[bytes]:
        for chunk in self._chunks():
            self._session.wait(0)
            yield chunk

    def _follow(self, response: Response) -> None:
        location = response.header("Location")
        if location:
            self._url = self._session.locate(self._endpoint, location, f"{self._repository}/blobs/uploads/")
        elif not self._url:
            raise TransportFailure("other", "it does not say where to send blobs")

    def _check(self, response: Response, *expected: int) -> None:
        if response.status in expected:
            return
        if response.status in TRANSIENT:
            raise TransportFailure("cut", f"it fails while it takes a blob (status {response.status})")
        raise refusal(self._endpoint, response)
