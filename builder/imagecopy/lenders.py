"""Where a registry that an image goes to has its blobs already."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.exporters.base import Group
    from cache.absent import Origin
    from cache.oci.digest import Digest
    from cache.oci.reference import Reference
    from cache.store import Store


class Lenders:
    """Repositories that may lend the blobs of an image of the store: its layers were fetched from them, by a
    base or a shared cache, or were sent to them."""

    def __init__(self, store: Store, group: Group) -> None:
        self._holders = store.holders
        self._origins: dict[Digest, list[str]] = {}
        for source in group:
            for layer in source.layers:
                known = store.absent.get(layer.chain_id)
                for origin in () if known is None else known.origins:
                    place = _repository(origin)
                    if place is not None:
                        self._origins.setdefault(origin.blob.digest, []).append(place)

    def of(self, digest: Digest, borrower: Reference) -> str | None:
        """Return a repository of the registry of `borrower`, another one than that, which has a blob."""
        for place in [*self._holders.of(digest), *self._origins.get(digest, [])]:
            registry, _, repository = place.partition("/")
            if registry == borrower.registry and repository != borrower.repository:
                return repository
        return None

    def note(self, digest: Digest, holder: Reference) -> None:
        """Note that a repository has a blob."""
        self._holders.note(digest, holder.name)


def _repository(origin: Origin) -> str | None:
    """Return the repository (`host/path`) that an origin is, None if it is none."""
    if origin.kind == "registry":
        return origin.place
    from builder.cachespec import CacheSpec

    return CacheSpec.parse(origin.place).repository or None
