"""Layers and a running config -> image config, history, manifest. Pure: same values, same bytes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cache.oci.digest import Digest
from cache.oci.spec import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_LAYER_ZSTD,
    Descriptor,
    History,
    ImageConfig,
    Manifest,
)

if TYPE_CHECKING:
    from cache.blobs import LayerBlob
    from cache.oci.digest import DiffID

COMMENT = "pybuild"
"""What history says of who wrote an entry, as BuildKit's `buildkit.dockerfile.v0`."""

LAYER_MEDIA_TYPES = {
    "none": MEDIA_TYPE_LAYER,
    "gzip": MEDIA_TYPE_LAYER_GZIP,
    "zstd": MEDIA_TYPE_LAYER_ZSTD,
}

# Members of a Docker config that speak of the container, or the image, that the base was committed from.
_OF_THE_BASE = frozenset(
    (
        "Parent",
        "Size",
        "container",
        "container_config",
        "docker_version",
        "id",
        "parent",
        "parent_id",
        "throwaway",
    )
)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One instruction: `created_by` as `docker history` shows it; `created` in seconds since 1970, None if
    unknown."""

    created_by: str
    created: int | None
    empty_layer: bool


def timestamp(seconds: int) -> str:
    """Return a time as RFC 3339 in UTC, whole seconds: `2024-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def assemble(
    base: ImageConfig | None,
    image: ImageConfig,
    *,
    history: Iterable[HistoryEntry],
    diff_ids: Sequence[DiffID],
    created: int | None,
) -> ImageConfig:
    """Return the config of an image: what `image` says of platform, author and running it, upon `base`.

    `diff_ids` are the layers on top of the base's, the lowest first, and there is one entry of `history` that
    is no `empty_layer` for each. `created` is in seconds since 1970.
    """
    entries = [
        History(
            created=None if entry.created is None else timestamp(entry.created),
            created_by=entry.created_by,
            comment=COMMENT,
            empty_layer=entry.empty_layer,
        )
        for entry in history
    ]
    assert sum(not entry.empty_layer for entry in entries) == len(diff_ids), "history and layers differ"
    return replace(
        image,
        created=None if created is None else timestamp(created),
        diff_ids=(*(base.diff_ids if base else ()), *diff_ids),
        history=(*(_complete_history(base) if base else ()), *entries),
        extra=tuple(pair for pair in image.extra if pair[0] not in _OF_THE_BASE),
    )


def manifest(config: bytes, layers: Sequence[LayerBlob]) -> Manifest:
    """Return the OCI manifest of an image of that config, whose layers are those blobs, the lowest first."""
    return Manifest(
        config=Descriptor(MEDIA_TYPE_CONFIG, Digest.of(config), len(config)),
        layers=tuple(Descriptor(LAYER_MEDIA_TYPES[blob.kind], blob.digest, blob.size) for blob in layers),
    )


def _complete_history(base: ImageConfig) -> tuple[History, ...]:
    """Return the base's history with an entry for each layer: without, ours would be taken for the base's
    layers."""
    missing = len(base.diff_ids) - sum(not entry.empty_layer for entry in base.history)
    unknown = History(created=base.created, comment=f"{COMMENT}: the base image has no history of this layer")
    return (*base.history, *((unknown,) * missing))
