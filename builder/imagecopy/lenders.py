"""Where a registry that an image goes to has its blobs already.

A layer that is not here, and that the registry has, need not come here: it is mounted. A base's layers go as
its registry has them, whatever they are compressed by; those of a shared cache if they are compressed as what
is sent, since a manifest is to have the same digest wherever it is made.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from cache.absent import AbsentLayer
from cache.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from builder.exporters.output_spec import OutputSpec
    from cache.absent import Origin
    from cache.compression import Kind
    from cache.oci.digest import ChainID, Digest
    from cache.oci.spec import Descriptor
    from cache.registry.client import RegistryClient
    from cache.registry.endpoints import Registries
    from cache.store import Store


class Lenders:
    """Repositories that may lend the blobs of images of the store: layers were fetched from them, or can be,
    by a base or a shared cache, or were sent to them."""

    def __init__(self, store: Store, client: RegistryClient) -> None:
        """`client` asks whether they have a blob still; it stays open."""
        self._store = store
        self._client = client
        self._origins: dict[Digest, list[str]] = {}

    def learn(self, chain_ids: Sequence[ChainID]) -> None:
        """Look up where layers are."""
        for chain_id in chain_ids:
            known = self._store.absent.get(chain_id)
            if known is not None:
                self._note(known.origins)

    def of(self, digest: Digest, borrower: Reference) -> str | None:
        """Return a repository of the registry of `borrower`, another one than that, which has a blob, as far
        as is known."""
        found = (each.repository for each in self._places(digest, borrower))
        return next((each for each in found if each != borrower.repository), None)

    def lent(self, layer: AbsentLayer, kind: str, borrowers: Sequence[Reference]) -> Descriptor | None:
        """Return the blob of a layer, a base's or compressed as `kind` says, that the registries of all of
        `borrowers` have; None if there is none."""
        self._note(layer.origins)
        fitting = [each for each in layer.origins if each.kind == "registry" or kind_of(each.blob) == kind]
        blobs = {
            each.blob.digest: each.blob for each in sorted(fitting, key=lambda each: each.kind == "cache")
        }
        for digest, blob in blobs.items():
            if all(self._has(digest, each) for each in borrowers):
                return blob
        return None

    def note(self, digest: Digest, holder: Reference) -> None:
        """Note that a repository has a blob."""
        self._store.holders.note(digest, holder.name)

    def _has(self, digest: Digest, borrower: Reference) -> bool:
        seen = self._store.holders.seen(digest)
        places = list(self._places(digest, borrower))
        if any(each.name in seen for each in places):
            return True
        holder = next((each for each in places if self._client.has_blob(each, digest)), None)
        if holder is not None:
            self.note(digest, holder)
        return holder is not None

    def _places(self, digest: Digest, borrower: Reference) -> Iterator[Reference]:
        """Yield the repositories of the registry of `borrower` that may have a blob."""
        places = (*self._store.holders.of(digest), *self._origins.get(digest, ()))
        for place in dict.fromkeys(places):
            registry, _, repository = place.partition("/")
            if registry == borrower.registry:
                yield Reference(registry, repository, "latest")

    def _note(self, origins: Sequence[Origin]) -> None:
        for origin in origins:
            place = _repository(origin)
            if place is not None:
                self._origins.setdefault(origin.blob.digest, []).append(place)


def lending(
    store: Store, registries: Callable[[], Registries], outputs: Sequence[OutputSpec], names: Sequence[str]
) -> Callable[[ChainID], bool]:
    """Return what says whether all of `outputs`, of an image with `names`, can do without the layers of a
    chain that are not here: they go to registries that have them."""

    def lent(chain_id: ChainID) -> bool:
        from builder.registries import registry_client

        layers = [each for each in store.stack(chain_id) or () if isinstance(each, AbsentLayer)]
        if not layers or any(spec.type != "registry" for spec in outputs):
            return False
        with closing(registry_client(registries())) as client:
            lenders = Lenders(store, client)
            return all(
                lenders.lent(layer, spec.compression.kind, borrowers((*names, *spec.names)))
                for spec in outputs
                for layer in layers
            )

    return lent


def borrowers(names: Sequence[str]) -> list[Reference]:
    """Return the repositories that `names` are of."""
    return [Reference.parse(name) for name in names]


def kind_of(blob: Descriptor) -> Kind:
    """Return how a layer is compressed, by its media type (image-spec, layer.md; Docker's, too)."""
    if blob.media_type.endswith("gzip"):
        return "gzip"
    return "zstd" if blob.media_type.endswith("zstd") else "none"


def _repository(origin: Origin) -> str | None:
    """Return the repository (`host/path`) that an origin is, None if it is none."""
    if origin.kind == "registry":
        return origin.place
    from builder.cachespec import CacheSpec

    return CacheSpec.parse(origin.place).repository or None
