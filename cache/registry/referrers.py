"""What refers to a manifest: signatures, SBOMs, attestations (distribution-spec, Listing Referrers)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache.errors import FormatError, RegistryError
from cache.oci.spec import MEDIA_TYPE_INDEX, Descriptor, Index
from cache.registry.documents import MANIFEST_LIMIT
from cache.registry.listing import pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from cache.oci.digest import Digest
    from cache.registry.endpoints import Endpoint
    from cache.registry.session import Session

_MOST = 10_000


def referrers(
    session: Session,
    endpoint: Endpoint,
    repository: str,
    digest: Digest,
    fallback: Callable[[str], Index | None],
) -> tuple[Descriptor, ...]:
    """Return the descriptors of all manifests whose subject is `digest`, in the registry's order.

    A registry without the API keeps them under a tag; `fallback` returns the index that a tag names, None
    for none. What is listed is not verified: the manifests are, when they are fetched. Raises
    TransportFailure, RegistryError, FormatError.
    """
    found: dict[Digest, Descriptor] = {}
    path = f"{repository}/referrers/{digest}"
    try:
        for body in pages(session, endpoint, repository, path, accept=MEDIA_TYPE_INDEX):
            if len(body) > MANIFEST_LIMIT:
                raise FormatError(f"{endpoint} sends an index of more than {MANIFEST_LIMIT} bytes: refused")
            for item in Index.from_json(body).manifests:
                found.setdefault(item.digest, item)
            if len(found) > _MOST:
                raise FormatError(f"{endpoint} lists more than {_MOST} referrers of {digest}: refused")
    except RegistryError as error:
        if error.code not in ("registry/not-found", "registry/refused"):
            raise
        index = fallback(fallback_tag(digest))
        return () if index is None else index.manifests
    return tuple(found.values())


def fallback_tag(digest: Digest) -> str:
    """Return the tag that lists the referrers of `digest` where there is no API for it: `sha256-…`."""
    return f"{digest.algorithm}-{digest.hex}"[:128]
