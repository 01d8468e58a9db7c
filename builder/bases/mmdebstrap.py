"""FROM [--variant=V] [--include=P] [--mirror=M] [--keyring=K] mmdebstrap://SUITE: Debian from packages alone.

The suite's signed Release files are the base's identity: they name the index of every package by its digest.
Debian's own mmdebstrap does the work, in the sandbox; what it leaves that differs from run to run is cleaned
away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.bases.base import BaseImage, BaseRequest, Surroundings
from builder.bases.images import find, keep, keep_unnamed, recall, remember
from builder.bases.wish import Wish, read_wish
from builder.errors import BaseError
from builder.events import Notice

if TYPE_CHECKING:
    from builder.bases.keyring import Keyring
    from builder.bases.release import Release
    from builder.lockfile import LockError
    from cache.oci.digest import Digest
    from cache.store import Store

_FORMAT = 1
"""Of what is made of the same packages. Counts up when that changes."""

_MOVES = 3
"""How often a mirror may be updated while it is read, before that is an error."""


class MmdebstrapTransport:
    """Bases made by mmdebstrap.

    Once made, one stands in the store until `pull` asks for the suite's state again.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def resolve(self, request: BaseRequest) -> BaseImage:
        """Return the base. Raises BaseError, HostError, StoreError."""
        wish = read_wish(request)
        if not request.pull:
            known = find(self._around.store, wish.name, request.platform)
            if known is not None:
                self._tell(known)
                return known
        with self._around.store.lock(f"base-{request.platform}-{wish.name}"):
            if not request.pull:  # another build may have made it while we waited
                known = find(self._around.store, wish.name, request.platform)
                if known is not None:
                    return known
            return self._make(wish, request)

    def releases(self, request: BaseRequest) -> tuple[str, ...]:
        """Return the Release files that the base would be made of now, as `releases_of`. Raises BaseError,
        HostError.
        """
        from builder.bases.bootstrap import Bootstrap

        return _told(Bootstrap(self._around, read_wish(request), request.platform).releases())

    def close(self) -> None: ...

    def _make(self, wish: Wish, request: BaseRequest) -> BaseImage:
        from builder.bases.bootstrap import Bootstrap

        around, store = self._around, self._around.store
        bootstrap = Bootstrap(around, wish, request.platform)
        for _ in range(_MOVES):
            releases = bootstrap.releases()
            told = _told(releases)
            if request.releases and told != request.releases:
                raise _moved(wish, request.releases, told)
            key = base_key(wish, releases, bootstrap.keyring, bootstrap.version)
            receipt = f"mmdebstrap {key}"
            made = recall(store, receipt, wish.name)
            if made is not None:
                data, config = store.images.get(made.image_id), made.config
            else:
                shared = self._shared(key, wish, request)
                if shared is not None:
                    store.receipts.put(_told_key(shared.image_id), "\n".join(told).encode())
                    return shared
                result = bootstrap.run(releases, find(store, wish.name, request.platform))
                if result is None:
                    continue
                data, config = result
            base = keep(around, data, config, names=[wish.name], platform=request.platform, digest=None)
            remember(store, receipt, base)
            store.receipts.put(_told_key(base.image_id), "\n".join(told).encode())
            store.receipts.put(_key_of(base.image_id), key.encode())
            self._tell(base)
            return base
        raise BaseError(f"the mirror of {wish.suite} keeps changing while it is read", code="base/mirror")

    def _shared(self, key: str, wish: Wish, request: BaseRequest) -> BaseImage | None:
        """Return the base that somebody else has made. It gets no name here: a build that does not believe
        who made it must not find it.
        """
        around = self._around
        found = None if around.shared is None else around.shared.base(key)
        if found is None:
            return None
        from cache.oci.spec import ImageConfig

        data = found.entry.value.encode()
        around.emit(Notice("info", "base/shared", f"{wish.name}: from {found.tier}"))
        config = ImageConfig.from_json(data)
        return keep_unnamed(around, data, config, wish.name, request.platform, None)

    def _tell(self, base: BaseImage) -> None:
        """Tell others of a base that was made here."""
        around = self._around
        key = None if around.shared is None else around.store.receipts.get(_key_of(base.image_id))
        if around.shared is not None and key is not None:
            around.shared.tell_base(key.decode(), around.store.images.get(base.image_id))


def releases_of(store: Store, image_id: Digest) -> tuple[str, ...]:
    """Return the Release files that a base was last made of, () where that is not known: each as `sha256:…
    URI SUITE`.
    """
    told = store.receipts.get(_told_key(image_id))
    return tuple(told.decode().split("\n")) if told else ()


def _key_of(image_id: Digest) -> str:
    return f"mmdebstrap-key {image_id}"


def _told_key(image_id: Digest) -> str:
    return f"releases {image_id}"


def _told(releases: Sequence[Release]) -> tuple[str, ...]:
    return tuple(f"sha256:{each.digest} {each.source.uri} {each.source.suite}" for each in releases)


def _moved(wish: Wish, old: tuple[str, ...], new: tuple[str, ...]) -> LockError:
    from builder.lockfile import LockError

    gone, come = (", ".join(sorted(set(a) - set(b))) or "none" for a, b in ((old, new), (new, old)))
    return LockError(
        f"{wish.name} has moved: of its Release files, {gone} are locked, and its mirror has {come}",
        code="lock/moved",
        hint="`pybuild lock --update` locks what there is now; a mirror at snapshot.debian.org never moves",
    )


def base_key(wish: Wish, releases: Sequence[Release], keyring: Keyring, version: str) -> str:
    """The BLAKE3 of all that the result depends on: the packages by their signed indexes, and what is done to
    them.
    """
    import json

    from blake3 import blake3

    sources = [[release.source.line(), release.digest] for release in releases]
    keys = "" if keyring.is_default else f"{keyring.file_name} {keyring.digest}"  # a copy is in the image
    parts = [
        _FORMAT,
        sources,
        wish.suite,
        wish.architecture,
        wish.variant,
        list(wish.include),
        keys,
        version,
    ]
    return blake3(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()
