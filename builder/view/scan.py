"""The entries of a changeset, as little of each as is shown."""

from __future__ import annotations

import os
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IMODE, S_ISDIR, S_ISSOCK
from typing import TYPE_CHECKING, NamedTuple

from cache import idmap, ownership
from cache.upperdir import READ_DIRECTORY, is_opaque, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = {S_IFREG: "f", S_IFDIR: "d", S_IFLNK: "l", S_IFCHR: "c", S_IFBLK: "b", S_IFIFO: "p"}
WHITEOUT = "w"


class Item(NamedTuple):
    """An entry of a changeset. `path` has no slash at either end; `size` is a regular file's, in bytes;
    `mtime` is in seconds since 1970; `inode` is 0 for what has no other name."""

    path: bytes
    kind: str
    size: int = 0
    mode: int = 0
    owner: tuple[int, int] = (0, 0)
    mtime: int = 0
    inode: int = 0
    opaque: bool = False


def scan(diff: str) -> Iterator[Item]:
    """Yield what is in the changeset at `diff`, a directory before its contents. Sockets are in no layer.

    Raises FormatError for what no layer can hold.
    """
    root = os.open(diff, READ_DIRECTORY)
    confined = idmap.confined()
    table = ownership.read_table(root) if confined else {}
    try:
        for entry in walk(root):
            status = entry.status
            if entry.whiteout:
                yield Item(entry.path, WHITEOUT)
                continue
            if S_ISSOCK(status.st_mode):
                continue
            kind = KINDS[S_IFMT(status.st_mode)]
            owner = (status.st_uid, status.st_gid)
            if confined:
                owner = table.get(entry.path) or ownership.owner_at(root, entry.path, status)
            directory = S_ISDIR(status.st_mode)
            yield Item(
                entry.path,
                kind,
                status.st_size if kind == "f" else 0,
                S_IMODE(status.st_mode),
                owner,
                int(status.st_mtime),
                status.st_ino if status.st_nlink > 1 and not directory else 0,
                directory and is_opaque(entry.directory),
            )
    finally:
        os.close(root)
