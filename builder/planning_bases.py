"""Which bases stand in the store already: told without asking where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.bases import split_scheme
from builder.bases.base import BaseRequest
from builder.bases.images import find

if TYPE_CHECKING:
    from builder.bases.base import BaseImage
    from builder.locks import RecipeLock
    from builder.steps import ImageBase
    from cache.store import Store


def find_base(
    store: Store, base: ImageBase, directory: str, lock: RecipeLock, *, pull: bool
) -> BaseImage | None:
    """Return the image that `base` names, if the store has it and a build would take it from there. Raises
    FormatError, BaseError for what is no name, LockError.

    Archives and layouts on disk are read by each build: of those nothing is known here.
    """
    scheme, location = split_scheme(base.reference)
    pin = lock.base(base)
    if pin is not None:
        from builder.lockedbases import refuse_moved, stored

        refuse_moved(store, base, lock, pin)
        if scheme in ("docker-image", "mmdebstrap"):
            known = stored(store, base, pin)
            if known is not None or pin.digest or lock.strict:
                return known
    if pull:
        return None
    if scheme == "docker-image":
        from cache.oci.reference import Reference

        return find(store, str(Reference.parse(location)), base.platform)
    if scheme == "mmdebstrap":
        from builder.bases.wish import read_wish

        request = BaseRequest(location, base.platform, base.options, False, directory or ".")
        return find(store, read_wish(request).name, base.platform)
    return None
