"""How a request to a registry is authenticated: anonymous, basic, or bearer tokens of a token server.

Source: distribution's docs/spec/auth (token.md, oauth.md, scope.md). Tokens are kept in memory, per server
and scope, until they expire. One Authorizer serves several threads, and asks a token server once for all of
them.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from cache.errors import RegistryError
from cache.registry.challenge import Challenge, parse_challenges
from cache.registry.credentials import Credential, Credentials
from cache.registry.endpoints import Endpoint
from cache.registry.proxies import host_of, is_loopback
from cache.registry.transport import Request, Response, Tls, read_bounded

_ANSWER_LIMIT = 1024 * 1024
_MARGIN = 10.0
"""Seconds before its end at which a token is taken for expired: a request is under way for a while."""

_DEFAULT_LIFE = 60
"""Seconds that a token lives if its server does not say (token.md)."""


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    expires: float


@dataclass(frozen=True, slots=True)
class _Realm:
    """A token server, and the service that it is to vouch to."""

    url: str
    service: str


class Authorizer:
    """Finds the Authorization header for a request.

    `send` is how a token server is asked, retries included.
    """

    def __init__(
        self,
        credentials: Credentials,
        send: Callable[[Request], Response],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._send = send
        self._clock = clock
        self._lock = threading.RLock()
        self._basic: dict[str, str] = {}
        self._realms: dict[str, _Realm] = {}
        self._tokens: dict[tuple[str, str], _Token] = {}

    def header(self, endpoint: Endpoint, scope: str, scheme: str) -> str | None:
        """The header that `endpoint` will want for `scope`, as far as that is known; None if nothing is.

        A server that has asked for tokens before is given one at once, which saves a refused request.
        """
        with self._lock:
            if basic := self._basic.get(endpoint.host):
                return basic
            token = self._tokens.get((endpoint.host, scope))
            if token is not None and token.expires > self._clock():
                return f"Bearer {token.value}"
            realm = self._realms.get(endpoint.host)
            return None if realm is None else self._fetch(endpoint, realm, scope, scope, scheme)

    def answer(
        self, endpoint: Endpoint, scope: str, scheme: str, response: Response, tried: str | None
    ) -> str | None:
        """The header that answers the challenge in a 401 `response`, or None if nothing is left to say.

        `tried` is the header that was refused. Raises RegistryError if the token server refuses us.
        """
        challenges = parse_challenges(response.headers("WWW-Authenticate"))
        repository = repository_of(scope)
        with self._lock:
            for challenge in challenges:
                if challenge.scheme == "bearer":
                    known = self._tokens.pop((endpoint.host, scope), None)
                    if known is not None and tried != f"Bearer {known.value}":  # another thread was faster
                        self._tokens[endpoint.host, scope] = known
                        return f"Bearer {known.value}"
                    realm = _realm(challenge, endpoint, scheme)
                    self._realms[endpoint.host] = realm
                    return self._fetch(endpoint, realm, scope, challenge.get("scope") or scope, scheme)
            if any(challenge.scheme == "basic" for challenge in challenges):
                credential = self._credentials.find(endpoint.registry, repository)
                if credential is not None and credential.username:
                    header = basic_header(credential)
                    if header != tried:
                        self._basic[endpoint.host] = header
                        return header
        return None

    def _fetch(self, endpoint: Endpoint, realm: _Realm, scope: str, wanted: str, scheme: str) -> str:
        credential = self._credentials.find(endpoint.registry, repository_of(scope))
        request = _token_request(realm, wanted, credential, _tls(realm.url, endpoint))
        with self._send(request) as response:
            body = read_bounded(response, _ANSWER_LIMIT)
            if response.status != 200:
                raise _refused(endpoint, realm, response.status, credential)
        token = _read_token(body, realm, self._clock())
        self._tokens[endpoint.host, scope] = token
        return f"Bearer {token.value}"


def pull_scope(repository: str) -> str:
    """The scope of reading from `repository` (scope.md)."""
    return f"repository:{repository}:pull"


def push_scope(repository: str, mounted: str | None = None) -> str:
    """The scope of writing to `repository`, and of reading from `mounted`, too."""
    scope = f"repository:{repository}:pull,push"
    return scope if mounted is None or mounted == repository else f"{scope} {pull_scope(mounted)}"


def delete_scope(repository: str) -> str:
    """The scope of deleting from `repository` (distribution's docs/spec/auth/scope.md)."""
    return f"repository:{repository}:pull,push,delete"


def repository_of(scope: str) -> str:
    """The repository that a scope is about, the first of several, or ""."""
    kind, _, rest = scope.partition(" ")[0].partition(":")
    return rest.rpartition(":")[0] if kind == "repository" else ""


def basic_header(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _realm(challenge: Challenge, endpoint: Endpoint, scheme: str) -> _Realm:
    """The token server that a challenge names.

    Whoever is spoken to over TLS cannot send us to a plain one.
    """
    url = challenge.get("realm") or ""
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("https", scheme):
        raise RegistryError(
            f"{endpoint} names a token server that is not safe to ask: {url[:200]!r}",
            code="registry/unauthorized",
            hint="it must be an https URL",
        )
    return _Realm(url, challenge.get("service") or "")


def _tls(url: str, endpoint: Endpoint) -> Tls:
    """An insecure registry's own host may have any certificate; a token server elsewhere may not."""
    host = (urlsplit(url).hostname or "").lower()
    own = host == host_of(endpoint.host) or is_loopback(host)
    return endpoint.tls if own else endpoint.tls.elsewhere


def _token_request(realm: _Realm, scope: str, credential: Credential | None, tls: Tls) -> Request:
    if credential is not None and credential.identity_token:
        form = {
            "grant_type": "refresh_token",
            "service": realm.service,
            "client_id": "pybuild",
            "scope": scope,
            "refresh_token": credential.identity_token,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return Request("POST", realm.url, headers, urlencode(form).encode(), tls)
    query = [("service", realm.service)] if realm.service else []
    query += [("scope", each) for each in scope.split(" ") if each]  # token.md: given once for each
    headers = {}
    if credential is not None:
        query.append(("account", credential.username))
        headers["Authorization"] = basic_header(credential)
    separator = "&" if "?" in realm.url else "?"
    return Request("GET", f"{realm.url}{separator}{urlencode(query)}", headers, None, tls)


def _read_token(body: bytes, realm: _Realm, now: float) -> _Token:
    import json

    try:
        answer = json.loads(body)
        value = answer.get("token") or answer.get("access_token")
        life = answer.get("expires_in") or _DEFAULT_LIFE
    except (ValueError, AttributeError, RecursionError):
        value, life = None, 0
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise RegistryError(f"the token server {_host(realm)} gave no token", code="registry/unauthorized")
    seconds = float(life) if isinstance(life, (int, float)) and life > 0 else float(_DEFAULT_LIFE)
    return _Token(value, now + max(seconds - _MARGIN, seconds / 2))


def _refused(endpoint: Endpoint, realm: _Realm, status: int, credential: Credential | None) -> RegistryError:
    if status in (400, 401, 403):
        who = "the stored login" if credential else "an anonymous login"
        return RegistryError(
            f"the token server {_host(realm)} refuses {who} for {endpoint} (status {status})",
            code="registry/unauthorized",
            hint=f"log in anew: pybuild login {endpoint.registry}",
        )
    return RegistryError(
        f"the token server {_host(realm)} of {endpoint} fails (status {status})", code="registry/unavailable"
    )


def _host(realm: _Realm) -> str:
    return urlsplit(realm.url).netloc.rpartition("@")[2]
