"""FROM name[:tag][@digest]: from the store, else from a registry or its mirrors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.bases.base import BaseImage, BaseRequest, Surroundings, refuse_options
from builder.bases.images import find, keep, read_config
from cache.oci.reference import Reference

if TYPE_CHECKING:
    from cache.oci.digest import ChainID, Digest
    from cache.oci.platform import Platform
    from cache.oci.spec import ImageConfig, Manifest
    from cache.registry.client import RegistryClient

_CONFIG_LIMIT = 16 * 1024 * 1024


class RegistryTransport:
    """Bases from registries. The client, with what it has learnt, is kept from one base to the next."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._client: RegistryClient | None = None

    def resolve(self, request: BaseRequest) -> BaseImage:
        """Return the image that the request's location names on its platform.

        The store is asked first, unless `pull` is set and the name has no digest. Raises FormatError,
        RegistryError, StoreError.
        """
        refuse_options(request, "an image of a registry")
        reference = Reference.parse(request.location)
        if not request.pull or reference.digest is not None:
            known = find(self._around.store, str(reference), request.platform)
            if known is not None and (self._around.lazy or self._is_here(known)):
                return known
        return self._pull(reference, request)

    def named(self, location: str) -> Digest:
        """Return the digest that a name stands for in its registry now: an index's, or a manifest's. Raises
        FormatError, RegistryError.
        """
        reference = Reference.parse(location)
        name = reference.digest or reference.tag or "latest"
        return self._connect().manifest(reference, name)[0].digest

    def look(self, location: str, platform: Platform) -> tuple[Digest, ImageConfig]:
        """Return that digest, and the config of the image for `platform`, without its layers. Raises
        FormatError, RegistryError.
        """
        reference, client = Reference.parse(location), self._connect()
        resolved = client.resolve(reference, platform)
        data = client.blob_bytes(reference, resolved.manifest.config, _CONFIG_LIMIT)
        return resolved.named, read_config(data, len(resolved.manifest.layers), reference.familiar)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _pull(self, reference: Reference, request: BaseRequest) -> BaseImage:
        around, client, name = self._around, self._connect(), reference.familiar
        resolved = client.resolve(reference, request.platform)
        data = client.blob_bytes(reference, resolved.manifest.config, _CONFIG_LIMIT)
        config = read_config(data, len(resolved.manifest.layers), name)
        if not self._note(reference, resolved.manifest, config):
            self._fetch(reference, client, resolved.manifest, config)
        digest = resolved.descriptor.digest
        pinned = [
            Reference(reference.registry, reference.repository, None, each)
            for each in (resolved.named, digest)
        ]
        names = (str(reference), *map(str, pinned))
        return keep(around, data, config, names=names, platform=request.platform, digest=digest)

    def _is_here(self, base: BaseImage) -> bool:
        return base.chain_id is None or self._around.store.layers.get(base.chain_id) is not None

    def _note(self, reference: Reference, manifest: Manifest, config: ImageConfig) -> bool:
        """Note where the layers can be had; return whether that will do: whoever reads them fetches them.

        It will not for layers that could not be had when somebody tried, or that are here and cannot be
        written out: then the registry is to say what is the matter.
        """
        from builder.bases.ingest import missing
        from cache.absent import AbsentLayer, Origin

        store, place, chains = self._around.store, f"{reference.registry}/{reference.repository}", []
        parent: ChainID | None = None
        for diff_id, blob in zip(config.diff_ids, manifest.layers, strict=True):
            layer = AbsentLayer(parent, diff_id, blob.size, (Origin("registry", place, blob),))
            parent = layer.chain_id
            chains.append(parent)
            if store.layers.get(parent) is None:
                store.absent.note(layer)
        damaged = any(
            store.layers.get(chains[index]) is not None
            for index in missing(store, config.diff_ids, chains, repair=True)
        )
        return self._around.lazy and not damaged and store.has(parent)

    def _fetch(
        self, reference: Reference, client: RegistryClient, manifest: Manifest, config: ImageConfig
    ) -> None:
        from builder.bases.downloads import Downloads
        from builder.bases.ingest import ingest

        around = self._around
        supply = Downloads(around, client, reference, manifest.layers, self._abandon)
        ingest(around.store, around.emit, reference.familiar, config.diff_ids, supply)

    def _connect(self) -> RegistryClient:
        if self._client is None:
            from builder.version import VERSION
            from cache.registry.client import RegistryClient
            from cache.registry.credentials import StoredCredentials
            from cache.registry.transport import UrllibTransport

            environ, registries = self._around.environ, self._around.registries
            self._client = RegistryClient(
                UrllibTransport(user_agent=f"pybuild/{VERSION}", environ=environ),
                registries=registries,
                credentials=StoredCredentials(environ, registries.credential_helpers if registries else None),
            )
        return self._client

    def _abandon(self) -> None:
        """Stop all downloads at once. The next pull begins with a new client."""
        client, self._client = self._client, None
        if client is not None:
            client.stop()
            client.close()
