"""Content digests of what COPY reads: BLAKE3 of each file, remembered by its stat, and of a selection as
a whole.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.tree import Entry, Selection, Tree, kept_xattr

if TYPE_CHECKING:
    from cache.statcache import StatCache, StatRow

_CHUNK = 1 << 20
_RACY_NS = 100_000_000
"""A file that changed less than this before it was hashed may change again within the same tick of the
kernel's clock, and keep its stat: its digest is not remembered (what git calls racy)."""


_NO_ATTRIBUTES = bytes(32)
"""In place of a digest, for a directory without extended attributes."""

_STORABLE = 1 << 63
"""The stat cache keeps times in 64 bits: a file from after 2262 is hashed each time."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The digest of a selection, and a line for each file, from which a miss finds what changed."""

    digest: str
    files: tuple[tuple[str, str], ...]


class FileDigests:
    """Digests of the files of one tree. With a stat cache, a file whose stat is unchanged is not
    read.
    """

    def __init__(self, tree: Tree, cache: StatCache | None = None, root: str = "") -> None:
        self._tree = tree
        self._cache = cache
        self._root = root
        self._known: dict[bytes, StatRow] | None = None
        self._changed = False

    def digest(self, entry: Entry) -> str:
        """Return the digest of the file's bytes, and of the extended attributes that a layer can carry."""
        return self._look_up(entry, self._hash).hex()

    def attributes(self, entry: Entry) -> str:
        """Return the digest of a directory's extended attributes that a layer can carry; "" if it has
        none.
        """
        digest = self._look_up(entry, self._hash_attributes)
        return "" if digest == _NO_ATTRIBUTES else digest.hex()

    def _look_up(self, entry: Entry, work_out: Callable[[Entry], bytes]) -> bytes:
        if self._known is None:
            self._known = self._cache.load(self._root) if self._cache is not None else {}
        path = os.fsencode(entry.path)
        row = self._known.get(path)
        now = (entry.size, entry.mtime, entry.ctime, entry.ino, entry.mode)
        if row is not None and row[:5] == now:
            return row[5]
        started = time.time_ns()
        digest = work_out(entry)
        # The cache keeps the paths with a zero between them: the top's would be none.
        if path and abs(entry.mtime) < _STORABLE and max(entry.mtime, entry.ctime) < started - _RACY_NS:
            self._known[path] = (*now, digest)
            self._changed = True
        return digest

    def save(self) -> None:
        """Write what was hashed to the stat cache."""
        if self._cache is not None and self._known is not None and self._changed:
            self._cache.save(self._root, self._known)
            self._changed = False

    def _hash(self, entry: Entry) -> bytes:
        from blake3 import blake3

        parent, name = self._tree.open_parent(entry.path)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            hasher = blake3()
            while data := os.read(fd, _CHUNK):
                hasher.update(data)
            hasher.update(_xattrs(fd))
            return hasher.digest()
        finally:
            os.close(fd)

    def _hash_attributes(self, entry: Entry) -> bytes:
        fd = self._tree.open_directory(entry.path)
        try:
            found = _xattrs(fd)
        finally:
            os.close(fd)
        if not found:
            return _NO_ATTRIBUTES
        from blake3 import blake3

        return blake3(found).digest()


def fingerprint(
    tree: Tree, selections: Sequence[Selection], digests: FileDigests, *, owners: bool
) -> Fingerprint:
    """Return the digest of all that COPY would take from `selections`: paths, types, modes, contents, link
    targets, with `owners` uid and gid too. Times are left out: a new checkout of the same commit must hit."""
    from blake3 import blake3

    files: list[tuple[str, str]] = []
    for selection in selections:
        names: dict[tuple[int, int], str] = {}
        top = selection.entries[0]
        # As it is called, not where symbolic links lead to: the name is copied.
        called = selection.origin
        for path, entry in selection.above:
            called = os.path.join(selection.origin, path)
            files.append((called, "p" + _describe(tree, entry, digests, owners)))
        for entry in selection.entries:
            path = called + entry.path[len(top.path) :]
            if entry is top and selection.is_directory:
                # Only what is in it is copied.
                files.append((path, "d"))
                continue
            description = "p" * (entry.path in selection.implied) + _describe(tree, entry, digests, owners)
            if entry.nlink > 1 and stat.S_ISREG(entry.mode):
                first = names.setdefault((entry.dev, entry.ino), path)
                description += "" if first == path else f" = {first}"
            files.append((path, description))
    hasher = blake3()
    for path, description in files:
        data = os.fsencode(path)
        hasher.update(
            len(data).to_bytes(4, "little") + data + description.encode("utf-8", "surrogateescape") + b"\0"
        )
    return Fingerprint(hasher.hexdigest(), tuple(files))


def _describe(tree: Tree, entry: Entry, digests: FileDigests, owners: bool) -> str:
    mode = stat.S_IMODE(entry.mode)
    owner = f"{entry.uid}:{entry.gid} " if owners else ""
    kind = stat.S_IFMT(entry.mode)
    if kind == stat.S_IFREG:
        return f"f{mode:o} {owner}{digests.digest(entry)}"
    if kind == stat.S_IFDIR:
        return f"d{mode:o} {owner}{digests.attributes(entry)}"
    if kind == stat.S_IFLNK:
        return f"l {owner}{tree.readlink(entry.path)}"
    return f"{kind:o} {mode:o} {owner}{entry.rdev}"


def _xattrs(fd: int) -> bytes:
    """Return the extended attributes that a layer can carry, names and values."""
    try:
        names = sorted(name for name in os.listxattr(fd) if kept_xattr(name))
    except OSError:
        return b""
    out = b""
    for name in names:
        value = os.getxattr(fd, name)
        out += f"\0{name}\0{len(value)}\0".encode("utf-8", "surrogateescape") + value
    return out
