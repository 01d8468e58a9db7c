"""`pybuild pull`: images of registries into the store, the way that FROM takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from builder.errors import UsageError
from builder.events import Notice
from cache.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.bases.base import BaseImage, Surroundings
    from builder.bases.registry import RegistryTransport
    from builder.config import Config
    from cache.oci.digest import Digest
    from cache.oci.platform import Platform
    from cache.oci.reference import Reference

Policy = Literal["always", "missing", "newer", "never"]
"""When the registry is asked, as podman has it. `newer`: always, but what the store has does, if nobody
answers."""

PREFIXES = ("docker://", "docker-image://")


class Puller:
    """Pulls by `policy`. Close it."""

    def __init__(self, around: Surroundings, policy: Policy) -> None:
        from builder.bases.registry import RegistryTransport

        self._around = around
        self._policy = policy
        self._transport: RegistryTransport = RegistryTransport(around)

    def __enter__(self) -> Puller:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    def pull(self, reference: Reference, platform: Platform) -> BaseImage:
        """Return the image that `reference` means on `platform`, in the store by then, layers and all. Raises
        RegistryError, FormatError, StoreError, UsageError.
        """
        found = self._pull(reference, platform)
        if found.chain_id is not None:
            self._around.store.layers.chain(found.chain_id)
        return found

    def _pull(self, reference: Reference, platform: Platform) -> BaseImage:
        from builder.bases.base import BaseRequest
        from builder.bases.images import find

        known = None
        if self._policy in ("newer", "never"):
            known = find(self._around.store, str(reference), platform)
        if self._policy == "never":
            if known is None:
                raise UsageError(
                    f"{reference.familiar} for {platform} is not in the store", code="image/unknown"
                )
            return known
        request = BaseRequest(str(reference), platform, pull=self._policy != "missing")
        try:
            return self._transport.resolve(request)
        except RegistryError as error:
            if known is None:
                raise
            message = f"{reference.familiar}: the one in the store is taken: {error.message}"
            self._around.emit(Notice("warning", "base/stale", message))
            return known

    def pull_all(self, reference: Reference, platforms: Sequence[Platform]) -> Digest:
        """Pull the images for all of `platforms`, and let the name mean them together; return the index's id.
        Raises as `pull`.
        """
        store = self._around.store
        images = [(platform, self.pull(reference, platform).image_id) for platform in platforms]
        index = store.images.put_index(images)
        store.sync()  # before the name: in a power cut, a name must not outlive what it names
        store.images.tag(str(reference), index)
        return index

    def platforms(self, reference: Reference) -> tuple[Platform, ...]:
        """Return the platforms of this system's kind that `reference` has images for; none if it is one image
        alone. Raises RegistryError, FormatError.
        """
        from builder.registries import registry_client
        from cache.oci.platform import Platform
        from cache.oci.spec import Index
        from cache.registry.endpoints import Registries

        client = registry_client(self._around.registries or Registries(), environ=self._around.environ)
        try:
            name = reference.digest or reference.tag or "latest"
            document = client.manifest(reference, name)[2]
        finally:
            client.close()
        if not isinstance(document, Index):
            return ()
        own = Platform.host().os
        found = [item.platform for item in document.manifests if item.platform is not None]
        return tuple(dict.fromkeys(each for each in found if each.os == own))


def named(text: str, config: Config) -> Reference:
    """Return the image of a registry that a user's words mean. Raises UsageError, FormatError,
    RegistryError.
    """
    from builder.shortnames import aliases, full_name
    from cache.oci.reference import Reference

    return Reference.parse(full_name(pullable(text), aliases(config)))


def pullable(text: str) -> str:
    """Return the image's name in what a user wrote, `docker://` before it or not. Raises UsageError for what
    is no registry's.
    """
    for prefix in PREFIXES:
        if text.startswith(prefix):
            return text.removeprefix(prefix)
    if "://" in text:
        raise UsageError(
            f"{text} is not an image of a registry",
            code="usage/name",
            hint="`pybuild load` reads archives and layouts",
        )
    return text
