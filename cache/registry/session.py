"""Exchanges with a registry as callers mean them: authenticated, redirected, retried, by the right scheme."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

from cache.registry.auth import Authorizer
from cache.registry.credentials import Credentials
from cache.registry.endpoints import Endpoint
from cache.registry.failures import TransportFailure
from cache.registry.proxies import host_of, is_loopback
from cache.registry.retry import TRANSIENT, RetryPolicy, retry_after
from cache.registry.transport import Body, Request, Response, Tls, Transport

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MOST_REDIRECTS = 10


class Cancelled(Exception):
    """The session was stopped from another thread."""


class Session:
    """Sends requests to endpoints. Safe to use from several threads; `stop` ends all of them."""

    def __init__(self, transport: Transport, credentials: Credentials, policy: RetryPolicy) -> None:
        self.policy = policy
        self._transport = transport
        self._authorizer = Authorizer(credentials, self._retried)
        self._schemes: dict[str, str] = {}
        self._met: set[tuple[str, str]] = set()
        self._stopped = threading.Event()
        self._open: set[Response] = set()
        self._lock = threading.Lock()

    def send(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """Ask `endpoint` for /v2/`path`, and return the answer, whatever its status.

        Raises TransportFailure if none came, RegistryError if a token server refused.
        """
        known = self._schemes.get(endpoint.host)
        failures: list[tuple[str, TransportFailure]] = []
        for scheme in (known,) if known else endpoint.schemes:
            url = f"{scheme}://{endpoint.host}/v2/{path}"
            request = Request(method, url, dict(headers or {}), body, endpoint.tls)
            try:
                response = self._authorized(endpoint, request, scope, scheme)
            except TransportFailure as failure:
                failures.append((scheme, failure))
                if failure.kind not in ("tls", "connect", "cut"):
                    break
            else:
                self._schemes[endpoint.host] = scheme
                return response
        raise _combined(failures)

    def send_body(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        body: Body,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        read: float | None = None,
    ) -> Response:
        """Send `body` to `url`, which `endpoint` has named (`locate`), once: what is done about a failure
        depends on what is there by then. Raises TransportFailure, RegistryError, Cancelled.
        """
        self.wait(0)
        here = urlsplit(url)
        own = (here.scheme, here.netloc) == (self._schemes.get(endpoint.host), endpoint.host)
        tls = endpoint.tls if own else _tls_of(endpoint, here.hostname or "")
        request = Request(method, url, dict(headers or {}), body, tls, read)
        if not own:
            return self._exchange(request)
        header = self._authorizer.header(endpoint, scope, here.scheme)
        response = self._exchange(_with(request, header))
        if response.status != 401:
            return response
        answer = self._authorizer.answer(endpoint, scope, here.scheme, response, header)
        if answer is None:
            return response
        response.close()
        return self._exchange(_with(request, answer))

    def locate(self, endpoint: Endpoint, location: str, base: str) -> str:
        """Return the URL that `location`, in an answer to a request for `base` (below /v2/), means.

        A registry behind a proxy may not know that it is spoken to over TLS: the scheme that works is kept.
        Raises TransportFailure for what is no URL to send anything to.
        """
        scheme = self._schemes.get(endpoint.host, endpoint.schemes[0])
        url = urljoin(f"{scheme}://{endpoint.host}/v2/{base}", location)
        parts = urlsplit(url)
        if parts.netloc == endpoint.host:
            return parts._replace(scheme=scheme).geturl()
        plain = parts.scheme == "http" and (scheme == "http" or not endpoint.tls.verify)
        if not parts.hostname or not (plain or parts.scheme == "https"):
            raise TransportFailure("other", f"it wants uploads at {url[:200]!r}")
        return url

    def wait(self, seconds: float) -> None:
        """Sleep. Raises Cancelled if the session is stopped, then or before."""
        if self._stopped.wait(seconds):
            raise Cancelled

    def watch(self, response: Response) -> None:
        """Let `stop` abort the reading of `response`."""
        with self._lock:
            self._open.add(response)
        self.wait(0)

    def forget(self, response: Response) -> None:
        with self._lock:
            self._open.discard(response)

    def stop(self) -> None:
        """Make every thread that uses this session end soon, blocked reads included. There is no way back."""
        self._stopped.set()
        with self._lock:
            for response in self._open:
                response.abort()
        self._transport.stop()

    def close(self) -> None:
        self._transport.close()

    def _authorized(self, endpoint: Endpoint, request: Request, scope: str, scheme: str) -> Response:
        header = self._authorizer.header(endpoint, scope, scheme)
        response = self._redirected(endpoint, _with(request, header))
        if response.status != 401:
            return response
        answer = self._authorizer.answer(endpoint, scope, scheme, response, header)
        if answer is None:
            return response
        response.close()
        return self._redirected(endpoint, _with(request, answer))

    def _redirected(self, endpoint: Endpoint, request: Request) -> Response:
        """Follow redirects: blobs often lie in an object store.

        Credentials are for the registry's eyes only.
        """
        for _ in range(_MOST_REDIRECTS):
            response = self._retried(request)
            location = response.header("Location")
            if request.method not in ("GET", "HEAD") or response.status not in _REDIRECTS or not location:
                return response
            response.close()
            request = _redirect(endpoint, request, location)
        raise TransportFailure("other", "it redirects without end")

    def _retried(self, request: Request) -> Response:
        attempt = 0
        while True:
            self.wait(0)
            attempt += 1
            pause: float | None
            try:
                response = self._exchange(request)
            except TransportFailure as failure:
                pause = self.policy.delay(attempt) if failure.transient else None
                if pause is None:
                    raise
            else:
                if response.status not in TRANSIENT:
                    return response
                asked = retry_after(response.header("Retry-After"), time.time())
                pause = self.policy.delay(attempt, asked)
                if pause is None:
                    return response
                response.close()
            self.wait(pause)

    def _exchange(self, request: Request) -> Response:
        """Send `request`, once. A server that has answered before and refuses connections now is being
        started again, more likely than not: that passes.
        """
        parts = urlsplit(request.url)
        server = (parts.scheme, parts.netloc)
        try:
            response = self._transport.send(request)
        except TransportFailure as failure:
            if failure.kind == "connect" and server in self._met:
                raise TransportFailure("gone", failure.reason) from failure
            raise
        self._met.add(server)
        return response


def _tls_of(endpoint: Endpoint, host: str) -> Tls:
    """How another host than the registry is trusted; its own name, at another port, is the registry's."""
    own = host == host_of(endpoint.host) or is_loopback(host)
    return endpoint.tls if own else endpoint.tls.elsewhere


def _with(request: Request, authorization: str | None) -> Request:
    if authorization is None:
        return request
    headers = {**request.headers, "Authorization": authorization}
    return replace(request, headers=headers)


def _redirect(endpoint: Endpoint, request: Request, location: str) -> Request:
    """The request that follows a redirect.

    To another origin (scheme, host, port) goes no credential; from TLS to plain HTTP goes nothing at all,
    unless the registry is configured as insecure.
    """
    url = urljoin(request.url, location)
    old, new = urlsplit(request.url), urlsplit(url)
    if new.scheme not in ("http", "https") or not new.hostname:
        raise TransportFailure("other", f"it redirects to {url[:200]!r}")
    if (old.scheme, new.scheme) == ("https", "http") and endpoint.tls.verify:
        raise TransportFailure("other", f"it redirects from https to plain http ({new.netloc[:100]})")
    if (old.scheme, old.netloc) == (new.scheme, new.netloc):
        return Request(request.method, url, request.headers, None, request.tls)
    headers = {key: value for key, value in request.headers.items() if key.lower() != "authorization"}
    return Request(request.method, url, headers, None, _tls_of(endpoint, new.hostname))


def _combined(failures: list[tuple[str, TransportFailure]]) -> TransportFailure:
    """One failure of several schemes: the same reason is said once."""
    last = failures[-1][1]
    if len({failure.reason for _, failure in failures}) == 1:
        return last
    return TransportFailure(
        last.kind, "; ".join(f"over {scheme}, {fail.reason}" for scheme, fail in failures)
    )
