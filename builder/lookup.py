"""From what a user types to an image of the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.bases.base import chain_of
from builder.errors import UsageError
from cache.oci.digest import ChainID, Digest
from cache.oci.spec import ImageConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cache.store import Store


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of the store. `chain_id` is None if it has no layers; `names` are short (`app:latest`)."""

    image_id: Digest
    config: ImageConfig
    chain_id: ChainID | None
    names: tuple[str, ...]


def find_image(store: Store, text: str) -> StoredImage:
    """Return the image that `text` (a name, an id, the start of one) means. Raises UsageError if there is
    none.
    """
    image_id = store.images.resolve(text)
    if image_id is None or not store.images.exists(image_id):
        names = [familiar(name) for name in store.images.names()]
        raise UsageError(
            f"there is no image {text!r} in the store {store.root}",
            code="image/unknown",
            hint=nearest(text, [*names, *(name.removesuffix(":latest") for name in names)])
            or "`pybuild images` lists those that there are",
        )
    return read_image(store, image_id)


def read_image(store: Store, image_id: Digest) -> StoredImage:
    """Return the image of that id. Raises StoreError."""
    config = ImageConfig.from_json(store.images.get(image_id))
    names = tuple(familiar(name) for name in store.images.names_of(image_id))
    return StoredImage(image_id, config, chain_of(config.diff_ids), names)


def familiar(name: str) -> str:
    """Return the short form of a canonical name; a name of another kind as it is."""
    from cache.errors import FormatError
    from cache.oci.reference import Reference

    if "://" in name:
        return name
    try:
        return Reference.parse(name).familiar
    except FormatError:
        return name


def short_id(digest: str) -> str:
    """Return the first 12 digits of a digest, as Docker shows it."""
    return digest.partition(":")[2][:12]


def nearest(text: str, names: Iterable[str]) -> str | None:
    """Return the hint that names the nearest of `names`, None if none is near."""
    import difflib

    near = difflib.get_close_matches(text, list(names), n=1)
    return f"Did you mean {near[0]}?" if near else None
