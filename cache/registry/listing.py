"""Lists that a registry gives page by page: tags, referrers (distribution-spec, Content Discovery)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from cache.errors import FormatError
from cache.registry.auth import pull_scope
from cache.registry.refusals import refusal
from cache.registry.transport import read_bounded

if TYPE_CHECKING:
    from cache.registry.endpoints import Endpoint
    from cache.registry.session import Session

_PAGE_LIMIT = 32 * 1024 * 1024
"""Bytes. Registries that know no pages send everything at once."""

_MOST_PAGES = 10_000
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,]*?\brel\s*=\s*"?next"?', re.I)


def pages(
    session: Session, endpoint: Endpoint, repository: str, path: str, *, accept: str = "application/json"
) -> Iterator[bytes]:
    """Yield what /v2/`path` of `repository` holds, over as many requests as `Link: <…>; rel="next"` asks for.

    A link that leads elsewhere than to this registry's API, or in a circle, is refused. Raises
    TransportFailure, RegistryError, FormatError.
    """
    seen: set[str] = set()
    wanted: str | None = path
    while wanted is not None:
        if wanted in seen or len(seen) >= _MOST_PAGES:
            raise FormatError(f"{endpoint} sends a list without end")
        seen.add(wanted)
        headers = {"Accept": accept}
        with session.send(endpoint, "GET", wanted, scope=pull_scope(repository), headers=headers) as response:
            if response.status != 200:
                raise refusal(endpoint, response)
            body = read_bounded(response, _PAGE_LIMIT)
            if len(body) > _PAGE_LIMIT:
                raise FormatError(f"{endpoint} sends a list of more than {_PAGE_LIMIT} bytes: refused")
            links = response.headers("Link")
        yield body
        wanted = _next(endpoint, wanted, links)


def _next(endpoint: Endpoint, path: str, links: list[str]) -> str | None:
    """The path below /v2/ of the next page (RFC 8288), None if that was the last."""
    found = next((match for link in links if (match := _NEXT.search(link[:16384]))), None)
    if found is None:
        return None
    # Behind a proxy, a registry may take itself for a plain one, or not know its own name: what counts is
    # that the same server is asked for more of its API.
    base = f"https://{endpoint.host}/v2/{path}"
    url = urlsplit(urljoin(base, found[1]))
    if url.netloc.lower() != endpoint.host.lower() or not url.path.startswith("/v2/"):
        raise FormatError(
            f"{endpoint} says that its list goes on elsewhere: {found[1][:200]!r}",
            hint="a list is followed within the registry's own API only",
        )
    rest = url.path.removeprefix("/v2/")
    if ".." in rest.split("/"):
        raise FormatError(f"{endpoint} says that its list goes on at {found[1][:200]!r}")
    return f"{rest}?{url.query}" if url.query else rest
