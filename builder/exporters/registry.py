"""type=registry, and --push: the image goes to the registries that its names say."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from builder.exporters.base import Output, chain_ids_of

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.exporters.base import Group
    from builder.exporters.output_spec import OutputSpec
    from cache.registry.endpoints import Registries
    from cache.store import Store


def export(group: Group, spec: OutputSpec, store: Store, emit: Emit, registries: Registries) -> Output:
    """Push the image under each of its names; what a registry has already is not sent. Raises RegistryError,
    StoreError.
    """
    from builder.imagecopy.copier import copy, parts_of
    from builder.imagecopy.lenders import Lenders, borrowers
    from builder.imagecopy.registries import RegistryDestination
    from builder.imagecopy.storeimages import StoreSource
    from builder.registries import registry_client

    places = borrowers(group[0].names)
    size = 0
    with closing(registry_client(registries)) as asking:
        lenders = Lenders(store, asking)
        lenders.learn([each for source in group for each in chain_ids_of(source.config)])
        kind = spec.compression.kind
        source = StoreSource(
            store, group, emit, spec.compression, lambda layer: lenders.lent(layer, kind, places)
        )
        root = source.root()
        parts = parts_of(source, root, referrers=False)
        digest = root.descriptor.digest
        for place in places:
            client = registry_client(registries)
            with closing(RegistryDestination(client, place, None, digest, lenders)) as target:
                size += copy(source, target, parts, emit).size
    return Output(spec, size, digest)
