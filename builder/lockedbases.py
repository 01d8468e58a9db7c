"""Bases as a lock file has them: from the store, else by their digest, else not at all.

What is pinned is taken wherever it can be had. What only this host has (layouts and archives on its disk,
images that it built, what mmdebstrap makes of a mirror of today) may be another by now: that is said, and
with --locked it is an error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from builder.bases import split_scheme
from builder.bases.images import find, load, named_digest
from builder.events import Notice
from cache.oci.digest import Digest
from cache.oci.reference import Reference

if TYPE_CHECKING:
    from builder.bases.base import BaseImage
    from builder.events import Emit
    from builder.lockfile import BasePin, LockError
    from builder.locks import RecipeLock
    from builder.steps import ImageBase
    from cache.store import Store


class Bases(Protocol):
    """Finds bases where they come from."""

    def find(
        self, base: ImageBase, directory: str, *, pull: bool | None = None, releases: tuple[str, ...] = ()
    ) -> BaseImage:
        """Return the image of `base`, in the store by then."""

    def named(self, base: ImageBase) -> Digest:
        """Return the digest of what a registry's image is there, now."""


class LockedBases:
    """Finds bases through `bases`, as lock files pin them. `pull`: the registry is asked, too, what has
    moved.
    """

    def __init__(self, store: Store, emit: Emit, bases: Bases, *, pull: bool) -> None:
        self._store = store
        self._emit = emit
        self._bases = bases
        self._pull = pull
        self.tags: dict[str, str | None] = {}
        """With --locked: what names meant in the store (None: nothing), which an answer depends on."""

    def find(self, base: ImageBase, directory: str, lock: RecipeLock) -> BaseImage:
        """Return the image of `base`. Raises LockError, and what bases raise."""
        pin = lock.base(base)
        if pin is None:
            return self._bases.find(base, directory)
        scheme, _ = split_scheme(base.reference)
        refuse_moved(self._store, base, lock, pin)
        name = store_name(base)
        if lock.strict and name:
            image_id = self._store.images.resolve(name)
            self.tags[name] = None if image_id is None else str(image_id)
        if scheme == "docker-image" and pin.digest:
            return self._image(base, directory, lock, pin)
        if scheme in ("docker-image", "mmdebstrap"):
            return self._own(base, directory, lock, pin)
        found = self._bases.find(base, directory)
        return self._compared(found, base, lock, pin)

    def _image(self, base: ImageBase, directory: str, lock: RecipeLock, pin: BasePin) -> BaseImage:
        """An image of a registry: by its digest, for ever."""
        from cache.errors import RegistryError

        if self._pull:
            now = self._bases.named(base)
            if now != pin.digest:
                self._say(lock.moved(pin, now, "in its registry", base.span), lock)
        pinned = replace(base, reference=pinned_reference(base, pin))
        try:
            return self._bases.find(pinned, directory)
        except RegistryError as error:
            if error.code != "registry/not-found":
                raise
            now = self._bases.named(base)
            raise lock.moved(
                pin, now, "in its registry, which has the locked one no more", base.span
            ) from None

    def _own(self, base: ImageBase, directory: str, lock: RecipeLock, pin: BasePin) -> BaseImage:
        """An image that this host has built: what is pinned, if it is there still."""
        known = stored(self._store, base, pin)
        if known is not None:
            return known
        if not lock.strict:
            return self._compared(self._bases.find(base, directory), base, lock, pin)
        # The mirror may have again what was locked; if not, that is told before the work is done.
        found = self._bases.find(base, directory, pull=True, releases=pin.releases)
        return self._compared(found, base, lock, pin)

    def _compared(self, found: BaseImage, base: ImageBase, lock: RecipeLock, pin: BasePin) -> BaseImage:
        now = str(found.digest or found.image_id) if pin.digest else str(found.image_id)
        if now != pin.shown:
            self._say(lock.moved(pin, now, "here", base.span), lock)
        return found

    def _say(self, error: LockError, lock: RecipeLock) -> None:
        if lock.strict:
            raise error
        span = error.span
        place = (span.file, span.line) if span else ("", 0)
        self._emit(Notice("warning", "lock/stale", error.message, *place))


def stored(store: Store, base: ImageBase, pin: BasePin) -> BaseImage | None:
    """Return the image that `pin` means, if the store has it."""
    if pin.digest:
        return find(store, pinned_reference(base, pin), base.platform)
    return load(store, Digest(pin.image), pin.name)


def refuse_moved(store: Store, base: ImageBase, lock: RecipeLock, pin: BasePin) -> None:
    """Raise LockError (lock/moved) if the base's name means another image in this store by now, and
    --locked.

    What comes from elsewhere counts if the name was moved after the lock file was written: else it is the
    store that is behind, and what is locked has to be fetched. An image of this host's own counts as it is.
    """
    name = store_name(base)
    tagged = find(store, name, base.platform) if lock.strict and name else None
    if tagged is None:
        return
    locked = stored(store, base, pin)
    if locked is not None and locked.image_id == tagged.image_id:
        return
    own = bool(pin.image) and not pin.releases
    since = store.images.named_since(name)
    if not own and (since is None or since <= lock.changed):
        return
    now = named_digest(store, name, tagged, base.platform) if pin.digest else tagged.image_id
    raise lock.moved(pin, now, "in this store", base.span)


def pinned_reference(base: ImageBase, pin: BasePin) -> str:
    """Return the name of a registry's image by its locked digest."""
    reference = Reference.parse(split_scheme(base.reference)[1])
    return str(Reference(reference.registry, reference.repository, None, Digest(pin.digest)))


def store_name(base: ImageBase) -> str:
    """Return the name that a base goes by in the store, "" if it has none there."""
    scheme, location = split_scheme(base.reference)
    if scheme == "mmdebstrap":
        from builder.bases.base import BaseRequest
        from builder.bases.wish import read_wish

        return read_wish(BaseRequest(location, base.platform, base.options)).name
    return str(Reference.parse(location)) if scheme == "docker-image" else ""
