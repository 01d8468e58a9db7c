"""The HTTP seam: everything that pybuild fetches or sends over HTTP goes through a `Transport`.

`UrllibTransport` is the only place that knows urllib3. It does one exchange at a time: redirects,
authentication and retries are the business of `session`, which must see each of them. urllib3 and ssl are
imported at the first request: a cached build never pays for them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from cache.registry.connections import OpenSockets
from cache.registry.failures import TransportFailure, failure_of
from cache.registry.proxies import proxy_for

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

USER_AGENT = "pybuild"
CHUNK = 256 * 1024
"""The most bytes read at once from a body: what has arrived is passed on, and not waited for more."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server's certificate is checked: against the authorities in the file `ca`, the system's, and
    those in the files `authorities`. `client` is a certificate of ours, and its key.
    """

    verify: bool = True
    ca: str | None = None
    system: bool = True
    authorities: tuple[str, ...] = ()
    client: tuple[str, str] | None = None

    @property
    def elsewhere(self) -> Tls:
        """The same for a server that the first one names: it is trusted no less, and told nothing of us."""
        return Tls(ca=self.ca, authorities=self.authorities)


VERIFIED = Tls()


_TAKING = 60.0
"""Seconds that a server may be busy with what it has, and not read on."""

Body = bytes | Callable[[], Iterator[bytes]] | None


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `headers` may hold credentials: a Request is never logged.

    `body` may be a function that begins to read it, each time that it is sent; then `headers` have its
    length. `read`: the longest silence in seconds, None for the transport's own.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = None
    tls: Tls = VERIFIED
    read: float | None = None


class Response(Protocol):
    """An answer whose body is not read yet. Must be closed; a context manager does it."""

    @property
    def status(self) -> int: ...

    def header(self, name: str) -> str | None:
        """The value of a header, any case, or None."""

    def headers(self, name: str) -> list[str]:
        """Every value of a header that may be repeated."""

    def chunks(self) -> Iterator[bytes]:
        """The body as sent, no content coding undone. Raises TransportFailure if it ends early or stalls."""

    def abort(self) -> None:
        """Make a read that another thread is blocked in fail at once."""

    def close(self) -> None: ...

    def __enter__(self) -> Response: ...

    def __exit__(self, *_: object) -> None: ...


def read_bounded(response: Response, limit: int) -> bytes:
    """The whole body if it has at most `limit` bytes, else its first `limit` + 1. Raises TransportFailure."""
    body = b""
    for chunk in response.chunks():
        body += chunk
        if len(body) > limit:
            return body[: limit + 1]
    return body


class Transport(Protocol):
    """Sends requests. Safe to use from several threads."""

    def send(self, request: Request) -> Response:
        """Send `request` and return the answer, whatever its status. Raises TransportFailure if none came."""

    def stop(self) -> None:
        """Make what other threads send, or wait for, fail at once. There is no way back."""

    def close(self) -> None: ...


class UrllibTransport:
    """HTTP/1.1 over pooled connections.

    `connect` and `read` are timeouts in seconds; `read` is the longest silence, not the length of a transfer.
    The environment's http_proxy, https_proxy and no_proxy are honoured, as by curl.
    """

    def __init__(
        self,
        *,
        user_agent: str = USER_AGENT,
        connect: float = 10.0,
        read: float = 30.0,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._user_agent = user_agent
        self._connect = connect
        self._read = read
        self._environ = environ
        self._pools: dict[tuple[Tls | None, str | None], PoolManager] = {}
        self._lock = threading.Lock()
        self._sockets = OpenSockets()

    def send(self, request: Request) -> Response:
        import urllib3

        pool = self._pool(request)
        headers = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", **request.headers}
        # urllib3 takes the first one for the silence of a reader of what is sent, too.
        connect = _TAKING if callable(request.body) else self._connect
        timeout = urllib3.Timeout(connect=connect, read=request.read or self._read)
        try:
            answer = pool.request(
                request.method,
                request.url,
                headers=headers,
                body=request.body() if callable(request.body) else request.body,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise failure_of(error) from error
        return _UrllibResponse(answer)

    def stop(self) -> None:
        self._sockets.cut()

    def close(self) -> None:
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    def _pool(self, request: Request) -> PoolManager:
        import urllib3

        tls = request.tls if request.url.startswith("https:") else None
        proxy = proxy_for(request.url, self._environ)
        with self._lock:
            pool = self._pools.get((tls, proxy))
            if pool is None:
                settings = {"maxsize": 8, **({} if tls is None else _tls_settings(tls))}
                pool = urllib3.ProxyManager(proxy, **settings) if proxy else urllib3.PoolManager(**settings)
                pool.pool_classes_by_scheme = self._sockets.pools()
                self._pools[tls, proxy] = pool
            return pool


class _UrllibResponse:
    """A urllib3 answer as a `Response`."""

    __slots__ = ("_answer",)

    def __init__(self, answer: BaseHTTPResponse) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status

    def header(self, name: str) -> str | None:
        value: str | None = self._answer.headers.get(name)
        return value

    def headers(self, name: str) -> list[str]:
        return list(self._answer.headers.getlist(name))

    def chunks(self) -> Iterator[bytes]:
        import urllib3

        while True:
            try:
                data: bytes = self._answer.read1(CHUNK, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                raise failure_of(error) from error
            if not data:
                return
            yield data

    def abort(self) -> None:
        try:
            self._answer.shutdown()
        except (OSError, ValueError, RuntimeError):
            self._answer.close()  # the body was read to its end, and the socket is no longer its

    def close(self) -> None:
        self._answer.close()  # urllib3 has given the connection back already if the body was read to its end

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _tls_settings(tls: Tls) -> dict[str, Any]:
    import ssl

    import urllib3

    context = ssl.create_default_context() if tls.system else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in (tls.ca, *tls.authorities):
        try:
            if authority is not None:
                context.load_verify_locations(cafile=authority)
        except OSError as error:  # SSLError is one
            reason = f"the certificate authority {authority} cannot be used: {error}"
            raise TransportFailure("tls", reason) from error
    if tls.client is not None:
        try:
            context.load_cert_chain(*tls.client, password=_no_password)
        except OSError as error:
            reason = f"the certificate {tls.client[0]} cannot be used: {error}"
            raise TransportFailure("tls", reason) from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    settings: dict[str, Any] = {"ssl_context": context}
    return settings if tls.verify else {**settings, "cert_reqs": "CERT_NONE", "assert_hostname": False}


def _no_password() -> str:
    """Keep ssl from asking for the password of a key on the terminal: there is none."""
    return ""
