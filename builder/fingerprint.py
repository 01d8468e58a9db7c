"""Content digests of what COPY reads: BLAKE3 of each file, remembered by its stat, and of a selection as
a whole.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.tree import Entry, Selection, Tree, kept_xattr

if TYPE_CHECKING:
    from cache.statcache import StatCache, StatRow

_CHUNK = 1 << 20
_RACY_NS = 100_000_000
"""A file that changed less than this before it was hashed may change again within the same tick of the
kernel's clock, and keep its stat: its digest is not remembered (what git calls racy)."""


_MANY, _BATCH = 256, 128
"""Files that are worth several threads, and what one of these takes at a time."""

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
        self._fresh: dict[str, tuple[Entry, bytes]] = {}
        self._changed = False

    def digest(self, entry: Entry) -> str:
        """Return the digest of the file's bytes, and of the extended attributes that a layer can carry."""
        return self._look_up(entry, self._hash).hex()

    def look_at(self, entries: Iterable[Entry]) -> None:
        """Hash those of the files that have to be read, several at a time if they are many."""
        files = [each for each in entries if stat.S_ISREG(each.mode) and self._row(each) is None]
        files = [each for each in files if each.path not in self._fresh]
        if len(files) < _MANY:
            return
        from concurrent.futures import ThreadPoolExecutor

        batches = [files[start : start + _BATCH] for start in range(0, len(files), _BATCH)]
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="hash") as pool:
            for batch, (started, digests) in zip(batches, pool.map(self._hash_all, batches), strict=True):
                for entry, digest in zip(batch, digests, strict=True):
                    if not self._remember(entry, digest, started):
                        self._fresh[entry.path] = entry, digest

    def attributes(self, entry: Entry) -> str:
        """Return the digest of a directory's extended attributes that a layer can carry; "" if it has
        none.
        """
        digest = self._look_up(entry, self._hash_attributes)
        return "" if digest == _NO_ATTRIBUTES else digest.hex()

    def _look_up(self, entry: Entry, work_out: Callable[[Entry], bytes]) -> bytes:
        row = self._row(entry)
        if row is not None:
            return row[5]
        fresh = self._fresh.get(entry.path)
        if fresh is not None and fresh[0] == entry:
            return fresh[1]
        started = time.time_ns()
        digest = work_out(entry)
        self._remember(entry, digest, started)
        return digest

    def _row(self, entry: Entry) -> StatRow | None:
        """Return what the cache has of the file, if its stat is unchanged."""
        if self._known is None:
            self._known = self._cache.load(self._root) if self._cache is not None else {}
        row = self._known.get(os.fsencode(entry.path))
        return row if row is not None and row[:5] == _status(entry) else None

    def _remember(self, entry: Entry, digest: bytes, started: int) -> bool:
        """Keep a digest that was begun at `started` (ns since 1970); return whether it may be kept."""
        assert self._known is not None
        path = os.fsencode(entry.path)
        # The cache keeps the paths with a zero between them: the top's would be none.
        if path and abs(entry.mtime) < _STORABLE and max(entry.mtime, entry.ctime) < started - _RACY_NS:
            self._known[path] = (*_status(entry), digest)
            self._changed = True
            return True
        return False

    def save(self) -> None:
        """Write what was hashed to the stat cache."""
        if self._cache is not None and self._known is not None and self._changed:
            self._cache.save(self._root, self._known)
            self._changed = False

    def _hash(self, entry: Entry) -> bytes:
        parent, name = self._tree.open_parent(entry.path)
        try:
            return _hash_file(parent, name, entry.size)
        finally:
            os.close(parent)

    def _hash_all(self, entries: Sequence[Entry]) -> tuple[int, list[bytes]]:
        """Return when the first was begun, and the digests. What stands together is opened together."""
        started = time.time_ns()
        found = []
        directory, parent = "", self._tree.open_directory("")
        try:
            for entry in entries:
                above, _, name = entry.path.rpartition("/")
                if above != directory:
                    os.close(parent)
                    parent = -1
                    directory, parent = above, self._tree.open_directory(above)
                found.append(_hash_file(parent, name, entry.size))
        finally:
            if parent >= 0:
                os.close(parent)
        return started, found

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


def _status(entry: Entry) -> tuple[int, int, int, int, int]:
    return entry.size, entry.mtime, entry.ctime, entry.ino, entry.mode


def _hash_file(parent: int, name: str, size: int) -> bytes:
    from blake3 import blake3

    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        hasher = blake3()
        # A byte more than it had: then one read finds out that there is no more.
        step = min(size + 1, _CHUNK)
        while data := os.read(fd, step):
            hasher.update(data)
            size -= len(data)
            if size <= 0 and len(data) < step:
                break
        hasher.update(_xattrs(fd))
        return hasher.digest()
    finally:
        os.close(fd)


def fingerprint(
    tree: Tree, selections: Sequence[Selection], digests: FileDigests, *, owners: bool
) -> Fingerprint:
    """Return the digest of all that COPY would take from `selections`: paths, types, modes, contents, link
    targets, with `owners` uid and gid too. Times are left out: a new checkout of the same commit must hit."""
    from blake3 import blake3

    digests.look_at(entry for selection in selections for entry in selection.entries)
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
