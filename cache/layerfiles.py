"""The files of a layer: overlay2/<cache-id>/ with its changeset, and layerdb/sha256/<ChainID>/ that says what
it is.

As in Docker's store, each fact is a text file without a newline, so that `cat`, `ls` and `sha256sum` can
check it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from cache.disk import read_small, write_new
from cache.oci.digest import ChainID, DiffID

SYNCED = b"synced"
_LINK = 26  # as long as Docker's: 500 of them and their separators fit where a path is too long
_DIGEST = 71
_LOWER = 65536


@dataclass(frozen=True, slots=True)
class Layer:
    """A changeset on top of a chain. `size` is in bytes of its uncompressed tar."""

    chain_id: ChainID
    parent: ChainID | None
    diff_id: DiffID
    cache_id: str
    size: int


def short_name(cache_id: str) -> str:
    """Return the name of `cache_id` in overlay2/l/: the first 26 characters of its base32 (RFC 4648).

    Docker draws it at random; ours follows from the DiffID, so that two stores of the same layers are alike,
    and it cannot dangle for another layer. 130 bits tell as many layers apart as a store can ever hold.
    """
    number = int(cache_id, 16) >> (256 - 5 * _LINK)
    return "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[number >> 5 * i & 31] for i in range(_LINK - 1, -1, -1))


def lower_of(cache_ids_top_first: list[str]) -> str:
    """Return the text of `lower`: l/SHORT of the layers below, in overlayfs' order, the topmost first."""
    return ":".join("l/" + short_name(cache_id) for cache_id in cache_ids_top_first)


def lower_length(layers_below: int) -> int:
    """Return the length of the text of `lower`."""
    return layers_below * (_LINK + 3) - 1


def write_entry(path: str, layer: Layer, lower: str) -> None:
    """Write the files of the layerdb/ entry of `layer` to the empty directory `path`."""
    write_new(path + "/diff", layer.diff_id.encode())
    write_new(path + "/cache-id", layer.cache_id.encode())
    write_new(path + "/size", b"%d" % layer.size)
    if layer.parent is not None:
        write_new(path + "/parent", layer.parent.encode())
        write_new(path + "/lower", lower.encode())


def read_entry(chain_id: ChainID, fd: int) -> Layer | None:
    """Return what the layerdb/ entry open at `fd` says, None if it is not whole or not that of `chain_id`.

    After a power cut, a file that was not synced may be empty, cut off or gone. The ChainID is a digest of
    `diff` and `parent`, which makes them sure; `lower` is looked at when the layers below are known
    (`lower_is_whole`).
    """
    diff_id = _digest(read_small("diff", dir_fd=fd))
    size = read_small("size", dir_fd=fd)
    if diff_id is None or not size or not size.isdigit():
        return None
    below = read_small("parent", dir_fd=fd)
    parent = None if below is None else _digest(below)
    if below is not None and parent is None:
        return None
    layer = Layer(
        chain_id, None if parent is None else ChainID(parent), DiffID(diff_id), diff_id[7:], int(size)
    )
    if ChainID.extend(layer.parent, layer.diff_id) != chain_id:
        return None
    return layer if read_small("cache-id", dir_fd=fd) == layer.cache_id.encode() else None


def lower_is_whole(fd: int, layers_below: int) -> bool:
    """True if `lower` of the entry open at `fd` is as long as so many layers make it."""
    try:
        return os.stat("lower", dir_fd=fd, follow_symlinks=False).st_size == lower_length(layers_below)
    except FileNotFoundError:
        return layers_below == 0


def write_committed(path: str, boot: str) -> None:
    """Mark a changeset as whole for this boot, before it is published."""
    write_new(path + "/committed", boot.encode())


def mark_synced(path: str) -> None:
    """Mark a published changeset as whole for good: written in place, so that no power cut finds it empty."""
    try:
        fd = os.open(path + "/committed", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # pruned meanwhile
    try:
        os.pwrite(fd, SYNCED, 0)
        os.ftruncate(fd, len(SYNCED))
    finally:
        os.close(fd)


def committed(path: str) -> str | None:
    """Return the boot id within which the changeset can be trusted, "" for always, None for never."""
    text = read_small(path + "/committed")
    if not text:
        return None
    if text.startswith(SYNCED):
        return ""
    return text.decode("ascii", "replace")


def _digest(text: bytes | None) -> str | None:
    if text is None or len(text) != _DIGEST or not text.startswith(b"sha256:"):
        return None
    return text.decode("ascii", "replace")
