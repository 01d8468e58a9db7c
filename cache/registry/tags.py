"""The tags of a repository (distribution-spec, Listing Tags)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cache.errors import FormatError, RegistryError
from cache.oci.document import loads
from cache.registry.listing import pages

if TYPE_CHECKING:
    from cache.registry.endpoints import Endpoint
    from cache.registry.session import Session

_MOST_AT_ONCE = 1000
"""Docker's registry and the large ones refuse to send more on a page."""

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGITS = re.compile(r"([0-9]+)")


def tags(
    session: Session, endpoint: Endpoint, repository: str, *, count: int | None = None, after: str = ""
) -> Iterator[str]:
    """Yield the tags of `repository` in the order of the registry, which is to be that of the alphabet.

    `count`: how many are wanted, for pages that are no larger. `after`: a tag, there or not, up to which
    none are wanted; a registry may send them all the same. Raises TransportFailure, RegistryError,
    FormatError.
    """
    size = min(count or _MOST_AT_ONCE, _MOST_AT_ONCE)
    path = f"{repository}/tags/list"
    start = f"&last={after}" if after else ""
    try:
        yield from _tags(endpoint, pages(session, endpoint, repository, f"{path}?n={size}{start}"))
    except RegistryError as error:
        if error.code != "registry/refused":
            raise
        yield from _tags(endpoint, pages(session, endpoint, repository, path))  # it has a limit of its own


def natural(tag: str) -> tuple[tuple[int, int, str], ...]:
    """The key that sorts tags as people count: 1.9 before 1.10."""
    parts = _DIGITS.split(tag)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part)


def _tags(endpoint: Endpoint, found: Iterator[bytes]) -> Iterator[str]:
    for body in found:
        # `tags` is null in a repository whose tags are all deleted.
        for tag in loads(body, f"the tags that {endpoint} lists").texts("tags"):
            if _TAG.fullmatch(tag) is None:
                raise FormatError(f"{endpoint} lists a tag that is none: {tag[:140]!r}")
            yield tag
