"""type=registry, and --push: the image goes to the registries that its names say."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.exporters.base import Output
from cache.oci.reference import Reference

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
    from builder.imagecopy.lenders import Lenders
    from builder.imagecopy.registries import RegistryDestination
    from builder.imagecopy.storeimages import StoreSource
    from builder.registries import registry_client

    source = StoreSource(store, group, emit, spec.compression)
    root = source.root()
    parts = parts_of(source, root, referrers=False)
    digest = root.descriptor.digest
    lenders = Lenders(store, group)
    size = 0
    for name in group[0].names:
        with ExitStack() as stack:
            client = registry_client(registries)
            target = RegistryDestination(client, Reference.parse(name), None, digest, lenders)
            stack.callback(target.close)
            size += copy(source, target, parts, emit).size
    return Output(spec, size, digest)
