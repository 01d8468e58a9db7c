"""Base images that stand in the store, by the names under which bases are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.bases.base import BaseImage, Surroundings, chain_of
from builder.events import Notice
from cache.errors import CacheError, FormatError
from cache.oci.digest import Digest
from cache.oci.spec import ImageConfig

if TYPE_CHECKING:
    from cache.oci.platform import Platform
    from cache.store import Store


def find(store: Store, name: str, platform: Platform) -> BaseImage | None:
    """Return the image `name` for `platform`, if the store has it; its layers are there or can be had.

    A name means one image; that of another platform, pulled under the same name, is remembered beside it.
    """
    image_id = store.images.resolve(name)
    members = store.images.indexes.get(image_id) if image_id is not None else None
    best = platform.best(each for each, _ in members) if members else None
    if members and best is not None:
        image_id = dict(members)[best]
    found = None if image_id is None else _load(store, image_id, name, platform)
    if found is None:
        found = recall(store, _receipt(name, platform), name)
    return found


def named_digest(store: Store, name: str, base: BaseImage, platform: Platform) -> str:
    """Return the digest under which a registry gave `base` when `name` was pulled: an index's rather than
    its manifest's. The image's id, if it came from none.
    """
    repository = name.rpartition(":")[0] + "@"
    names = store.images.names_of(base.image_id)
    digests = [each.removeprefix(repository) for each in names if each.startswith(repository)]
    pulled = recall(store, _receipt(name, platform), name)
    manifest = None if pulled is None else pulled.digest
    return next((each for each in digests if each != manifest), str(manifest or base.image_id))


def load(store: Store, image_id: Digest, name: str) -> BaseImage | None:
    """Return the image `image_id` as the base `name`; None if it is not whole in the store."""
    if not store.images.exists(image_id):
        return None
    try:
        config = ImageConfig.from_json(store.images.get(image_id))
    except CacheError:  # damaged: as good as absent, and fetched again
        return None
    chain_id = chain_of(config.diff_ids)
    if not store.has(chain_id):
        return None
    return BaseImage(image_id, config, chain_id, name)


def keep(
    around: Surroundings,
    data: bytes,
    config: ImageConfig,
    *,
    names: Sequence[str],
    platform: Platform,
    digest: Digest | None,
) -> BaseImage:
    """Keep the image config `data`, whose layers are in the store, under `names`; return base `names[0]`."""
    store = around.store
    warn_of_platform(around, names[0], config, platform)
    image_id = store.images.put(data)
    store.sync()  # before the names: in a power cut, a name must not outlive what it names
    base = BaseImage(image_id, config, chain_of(config.diff_ids), names[0], digest)
    for name in dict.fromkeys(names):
        store.images.tag(name, image_id)
        remember(store, _receipt(name, platform), base)
    return base


def keep_unnamed(
    around: Surroundings,
    data: bytes,
    config: ImageConfig,
    reference: str,
    platform: Platform,
    digest: Digest | None,
) -> BaseImage:
    """Keep the image config `data`, whose layers are in the store, without a name: its source keeps it."""
    warn_of_platform(around, reference, config, platform)
    image_id = around.store.images.put(data)
    return BaseImage(image_id, config, chain_of(config.diff_ids), reference, digest)


def recall(store: Store, receipt: str, reference: str) -> BaseImage | None:
    """Return the base that was remembered under `receipt`, if it is still whole in the store."""
    value = store.receipts.get(receipt)
    if value is None:
        return None
    image_id, _, digest = value.decode().partition(" ")
    found = load(store, Digest(image_id), reference)
    return None if found is None else replace(found, digest=Digest(digest) if digest else None)


def remember(store: Store, receipt: str, base: BaseImage) -> None:
    """Let `recall` find `base` under `receipt`."""
    store.receipts.put(receipt, f"{base.image_id} {base.digest or ''}".encode())


def warn_of_platform(around: Surroundings, name: str, config: ImageConfig, platform: Platform) -> None:
    """Say so if the image `name` is for another platform: as Docker, it is taken all the same."""
    if not platform.matches(config.platform):
        message = f"{name} is for {config.platform}, not for {platform}: its programs may not run here"
        around.emit(Notice("warning", "base/platform", message))


def read_config(data: bytes, layers: int, name: str) -> ImageConfig:
    """Return the image config in `data`, which must have as many layers as its manifest, or FormatError."""
    config = ImageConfig.from_json(data)
    if len(config.diff_ids) != layers:
        found = len(config.diff_ids)
        raise FormatError(
            f"{name}: its manifest has {layers} layers, its config has {found}: they do not match"
        )
    return config


def _load(store: Store, image_id: Digest, name: str, platform: Platform) -> BaseImage | None:
    found = load(store, image_id, name)
    return found if found is not None and platform.matches(found.config.platform) else None


def _receipt(name: str, platform: Platform) -> str:
    return f"base {platform} {name}"
