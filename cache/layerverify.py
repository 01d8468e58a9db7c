"""Checking a published layer against what is written about it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cache.disk import read_small, storing
from cache.errors import StoreCorrupt
from cache.layerfiles import lower_of, short_name
from cache.oci.digest import DiffID

if TYPE_CHECKING:
    from cache.layers import Layer, LayerStore


def tar_digest(upper: str) -> DiffID:
    """Return the digest of the tar that we would write of a changeset, which stays as it is."""
    from cache.changeset import write_tar

    return write_tar(upper, _Discard()).diff_id


def verify(layers: LayerStore, chain: tuple[Layer, ...], tree: str | None) -> None:
    """Check the topmost layer of `chain`. `tree`: see LayerIndex.tree. Raises StoreCorrupt."""
    layer = chain[-1]
    with storing("verifying a layer"):
        _check_files(layers, chain)
        found = tar_digest(layers.diff_path(layer))
    expected = tree or layer.diff_id
    if found != expected:
        raise StoreCorrupt(
            f"the layer {layer.chain_id} was changed on the disk: its files make {found}, not {expected}",
            hint=f"remove {layers.overlay2}/{layer.cache_id}/committed, and the next build makes it anew",
        )


def _check_files(layers: LayerStore, chain: tuple[Layer, ...]) -> None:
    layer = chain[-1]
    entry = f"{layers.layerdb}/{layer.chain_id.hex}"
    short = short_name(layer.cache_id)
    lower = lower_of([each.cache_id for each in reversed(chain[:-1])]).encode() or None
    if read_small(entry + "/lower") != lower:
        raise StoreCorrupt(f"{entry}/lower does not name the layers below")
    if read_small(f"{layers.overlay2}/{layer.cache_id}/link") != short.encode():
        raise StoreCorrupt(f"{layers.overlay2}/{layer.cache_id}/link is not {short}")
    link = f"{layers.overlay2}/l/{short}"
    if not os.path.islink(link) or os.readlink(link) != f"../{layer.cache_id}/diff":
        raise StoreCorrupt(f"{link} does not lead to ../{layer.cache_id}/diff")


class _Discard:
    """Where a tar goes that only its digest is wanted of."""

    def write(self, data: bytes) -> int:
        return len(data)
