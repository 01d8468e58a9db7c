"""Image bases, found through the transports of builder.bases, which are imported when one is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.bases.base import BaseImage, BaseTransport
    from builder.bases.mmdebstrap import MmdebstrapTransport
    from builder.bases.registry import RegistryTransport
    from builder.events import Emit
    from builder.locks import RecipeLock
    from builder.session import Session
    from builder.sharedcache import SharedCache
    from builder.stage import StageResult
    from builder.steps import ImageBase
    from cache.oci.digest import Digest


class BaseResolver:
    """Finds the image bases of one build."""

    def __init__(
        self,
        session: Session,
        emit: Emit,
        *,
        pull: bool,
        confined: bool = False,
        given: frozenset[str] = frozenset(),
        shared: SharedCache | None = None,
    ) -> None:
        """`confined`: recipes are a stranger's, and have no business with files of this host, but for those
        in `given`.
        """
        self._shared = shared
        self._given = given
        self._confined = confined
        self._session = session
        self._emit = emit
        self._pull = pull
        self.found: list[tuple[str, BaseImage]] = []
        """What was asked for, and what it was."""
        self._transports: dict[str, BaseTransport] = {}
        from builder.lockedbases import LockedBases

        self.locked = LockedBases(session.store, emit, self, pull=pull)

    def __call__(self, base: ImageBase, directory: str, lock: RecipeLock) -> StageResult:
        """Return the image of `base` as `lock` has it, in the store by then."""
        from builder.stage import StageResult

        found = self.locked.find(base, directory, lock)
        return StageResult(found.chain_id, found.config, found.created)

    def find(
        self, base: ImageBase, directory: str, *, pull: bool | None = None, releases: tuple[str, ...] = ()
    ) -> BaseImage:
        """Return the image of `base`, in the store by then."""
        from builder.bases import LOCAL_SCHEMES, split_scheme
        from builder.bases.base import BaseRequest

        scheme, location = split_scheme(base.reference)
        of_host = scheme in LOCAL_SCHEMES or any(name == "keyring" for name, _ in base.options)
        if self._confined and of_host and base.reference not in self._given:
            raise UsageError(
                f"{base.reference} is a file of this host: a recipe that comes from elsewhere cannot have it",
                code="recipe/outside",
            )
        anew = self._pull if pull is None else pull
        request = BaseRequest(location, base.platform, base.options, anew, directory or ".", releases)
        found = self._transport(scheme).resolve(request)
        self.found.append((base.reference, found))
        return found

    def named(self, base: ImageBase) -> Digest:
        """Return the digest of what a registry's image is there now."""
        from builder.bases import split_scheme

        return self.registry.named(split_scheme(base.reference)[1])

    def releases(self, base: ImageBase, directory: str) -> tuple[str, ...]:
        """Return the Release files that an mmdebstrap base would be made of now."""
        from builder.bases import split_scheme
        from builder.bases.base import BaseRequest

        scheme, location = split_scheme(base.reference)
        transport = cast("MmdebstrapTransport", self._transport(scheme))
        return transport.releases(BaseRequest(location, base.platform, base.options, True, directory or "."))

    @property
    def registry(self) -> RegistryTransport:
        """The transport for images of registries."""
        return cast("RegistryTransport", self._transport("docker-image"))

    def _transport(self, scheme: str) -> BaseTransport:
        transport = self._transports.get(scheme)
        if transport is None:
            from builder.bases import open_transport
            from builder.bases.base import Surroundings

            session = self._session
            registries = session.registries()
            around = Surroundings(
                session.store, self._emit, session.executor, registries, lazy=True, shared=self._shared
            )
            transport = self._transports[scheme] = open_transport(scheme, around)
        return transport

    def close(self) -> None:
        """Let go of connections."""
        for transport in self._transports.values():
            transport.close()
