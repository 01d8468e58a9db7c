"""From names to what they need: images, chains, blobs. Nothing here changes anything."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.errors import CacheError
from cache.oci.digest import ChainID, DiffID, Digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cache.blobs import Blobs
    from cache.database import Database
    from cache.images import ImageStore

_MANIFEST_MAX = 4 << 20  # what distribution-spec asks of registries to take


@dataclass(frozen=True, slots=True)
class ImageUse:
    """An image and what it is made of. `chain_id` is None if it has no layers, or its config cannot be
    read; `used` is when it was built, pulled or run last, in seconds since 1970."""

    image_id: Digest
    size: int
    used: int
    named: bool
    readable: bool
    chain_id: ChainID | None


def images_in(images: ImageStore) -> list[ImageUse]:
    """Return every image of the store."""
    named = set(images.names().values())
    for index in tuple(named):
        named.update(images.indexes.images_of(index))
    found = []
    for image in images.all():
        try:
            status = os.stat(images.path(image))
        except FileNotFoundError:
            continue
        try:
            chain, readable = chain_of_config(images.get(image)), True
        except CacheError:
            chain, readable = None, False
        found.append(ImageUse(image, status.st_size, int(status.st_mtime), image in named, readable, chain))
    return found


def chain_of_config(config: bytes) -> ChainID | None:
    """Return the ChainID of an image config's root filesystem, None if that is empty. Raises FormatError."""
    from cache.oci.spec import ImageConfig

    chain: ChainID | None = None
    for diff_id in ImageConfig.from_json(config).diff_ids:
        chain = ChainID.extend(chain, DiffID(diff_id))
    return chain


def needed_blobs(
    blobs: Blobs, database: Database, images: Iterable[Digest], diff_ids: Iterable[DiffID]
) -> frozenset[Digest]:
    """Return the blobs that are the layers `diff_ids`, in any compression, and the documents that lead to
    them or to the configs `images`: manifests, and indexes of such."""
    needed: set[Digest] = set(images)
    layers = frozenset(diff_ids)
    for key, value in database.read(
        "SELECT key, value FROM memo WHERE kind = 'blob' UNION ALL "
        "SELECT substr(key, 8), value FROM receipts WHERE key LIKE 'pulled %'"
    ):
        if key.partition(" ")[0] in layers:
            needed.add(Digest(bytes(value).decode("ascii", "replace").split(" ")[1]))
    documents = dict(_documents(blobs))
    grown = True
    while grown:  # an index leads to a manifest, which leads to a config
        grown = False
        for digest, targets in documents.items():
            if digest not in needed and not targets.isdisjoint(needed):
                needed.add(digest)
                grown = True
    return frozenset(needed)


def _documents(blobs: Blobs) -> Iterable[tuple[Digest, frozenset[Digest]]]:
    """Yield each manifest with its config, and each index with its manifests."""
    import json

    for blob in blobs.all():
        if blob.size > _MANIFEST_MAX:
            continue
        path = blobs.get(blob.digest)
        if path is None:
            continue
        try:
            with open(path, "rb") as file:
                if file.read(1) != b"{":
                    continue
                document = json.loads(b"{" + file.read())
        except (OSError, ValueError, RecursionError):
            continue
        descriptors = [document.get("config"), *_list(document.get("manifests"))]
        digests = [each.get("digest") for each in descriptors if isinstance(each, dict)]
        yield blob.digest, frozenset(Digest(each) for each in digests if isinstance(each, str))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
