"""From what a user types to an image of the store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.bases.base import chain_of
from builder.errors import UsageError
from cache.oci.digest import ChainID, Digest
from cache.oci.platform import Platform
from cache.oci.spec import ImageConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cache.store import Store


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of the store. `chain_id` is None if it has no layers; `names` are short (`app:latest`). With
    an `index` it is the one for its platform among several: names, and what was asked for, mean the index.
    """

    image_id: Digest
    config: ImageConfig
    chain_id: ChainID | None
    names: tuple[str, ...]
    index: Digest | None = None

    @property
    def named_id(self) -> Digest:
        """What its names mean."""
        return self.index or self.image_id


def find_image(store: Store, text: str, platform: Platform | None = None) -> StoredImage:
    """Return the image that `text` (a name, an id, the start of one) means; of those for several platforms,
    the one that suits `platform`, without it this machine or else the first. Raises UsageError if there is
    none.
    """
    image_id = store.images.resolve(text)
    members = store.images.indexes.get(image_id) if image_id is not None else None
    if image_id is not None and members:
        return _member(store, text, image_id, dict(members), platform)
    if image_id is None or not store.images.exists(image_id):
        names = [familiar(name) for name in store.images.names()]
        raise UsageError(
            f"there is no image {text!r} in the store {store.root}",
            code="image/unknown",
            hint=nearest(text, [*names, *(name.removesuffix(":latest") for name in names)])
            or "`pybuild images` lists those that there are",
        )
    image = read_image(store, image_id)
    if platform is not None and not platform.matches(image.config.platform):
        raise _other_platform(text, platform, [image.config.platform])
    return image


def find_images(store: Store, text: str) -> tuple[StoredImage, ...]:
    """Return all images that `text` means: one for each platform. Raises UsageError if there is none."""
    image_id = store.images.resolve(text)
    members = store.images.indexes.get(image_id) if image_id is not None else None
    if image_id is None or not members:
        return (find_image(store, text),)
    return tuple(_of_index(store, image_id, member) for _, member in members)


def _member(
    store: Store,
    text: str,
    index: Digest,
    members: Mapping[Platform, Digest],
    platform: Platform | None,
) -> StoredImage:
    best = (platform or Platform.host()).best(members)
    if best is None and platform is not None:
        raise _other_platform(text, platform, members)
    return _of_index(store, index, members[best] if best is not None else next(iter(members.values())))


def _of_index(store: Store, index: Digest, image_id: Digest) -> StoredImage:
    names = tuple(familiar(name) for name in store.images.names_of(index))
    return replace(read_image(store, image_id), names=names, index=index)


def _other_platform(text: str, platform: Platform, offered: Iterable[Platform]) -> UsageError:
    there = ", ".join(map(str, offered))
    return UsageError(f"image {text} is for {there}, not for {platform}", code="image/platform")


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
