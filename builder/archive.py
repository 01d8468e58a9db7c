"""ADD of a local archive: told by its content, unpacked into a directory of ours, copied from there."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from builder.errors import PlanError
from builder.tree import Selection, Tree
from cache import idmap, ownership

if TYPE_CHECKING:
    from collections.abc import Callable

    from cache.scratch import Staging

_BLOCK = 512
_CHECKSUM = slice(148, 156)


def open_selection(tree: Tree, selection: Selection) -> int:
    """Return a descriptor of the file that `selection` is."""
    parent, name = tree.open_parent(selection.entries[0].path)
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=parent)
    finally:
        os.close(parent)


def is_archive(tree: Tree, selection: Selection) -> bool:
    """Return whether the file is a tar, plain or compressed by gzip, bzip2, xz or zstd: whatever its name is.

    As with BuildKit, a tar that begins with its end is a file like others.
    """
    from cache.decompression import decompress
    from cache.errors import FormatError

    if not stat.S_ISREG(selection.entries[0].mode):
        return False
    with open(open_selection(tree, selection), "rb") as file:
        try:
            block = decompress(file).read(_BLOCK)
        except FormatError:
            return False
    return len(block) == _BLOCK and _has_checksum(block)


def begins_archive(head: bytes) -> bool:
    """Return whether what begins with `head` (1024 bytes, if there are as many) is taken for an archive where
    a recipe could stand, too: as docker tells the two apart.
    """
    from cache.decompression import sniff

    return sniff(head) != "none" or (len(head) >= _BLOCK and _has_checksum(head[:_BLOCK]))


def _recorded_owner(root: int) -> Callable[[str], tuple[int, int]] | None:
    """Return what tells the owners below `root`, where the file system does not."""
    if not idmap.confined():
        return None

    def owner(path: str) -> tuple[int, int]:
        place = os.fsencode(path)
        return ownership.owner_at(root, place, os.stat(place or b".", dir_fd=root, follow_symlinks=False))

    return owner


def unpack_archive(tree: Tree, selection: Selection, staging: Staging, number: int) -> Tree:
    """Unpack the archive below `staging`; return the tree that it holds, which is the caller's to close.

    Nothing is written outside of that directory, whatever the archive says. Raises PlanError (add/archive).
    """
    from cache.changeset import unpack
    from cache.decompression import decompress
    from cache.errors import FormatError

    name = selection.source
    target = f"{staging.path}/archive-{number}"
    os.mkdir(target, 0o755)
    with open(open_selection(tree, selection), "rb") as file:
        try:
            unpack(decompress(file), target)
        except FormatError as error:
            raise PlanError(
                f"cannot unpack {name}: {error.message}",
                code="add/archive",
                hint="COPY, or ADD --unpack=false, takes it as it is",
            ) from None
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    unpacked = Tree(fd, name=f"the archive {name}", owner=_recorded_owner(fd))
    for entry in unpacked.select(".")[0].entries:
        if stat.S_ISCHR(entry.mode) and entry.rdev == 0:
            unpacked.close()
            raise PlanError(
                f"{name} is an image's layer: it deletes {entry.path}, which ADD cannot do",
                code="add/archive",
            )
    return unpacked


def _has_checksum(block: bytes) -> bool:
    """Whether the block bears the checksum that the header of a tar has (POSIX pax, ustar interchange)."""
    text = block[_CHECKSUM].strip(b" \0")
    if not text or not set(text) <= set(b"01234567"):
        return False
    rest = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    # Old tars added up signed characters.
    signed = sum(rest) - 256 * sum(byte > 127 for byte in rest)
    return int(text, 8) in (sum(rest), signed)
