"""Two upperdirs: did a step that ran again come out the same? And one upperdir against the layers below it.

Entries are compared by the headers that the layer tar would have of them (cache/tar_entry.py), mtimes
apart; so whatever counts for a DiffID counts here, and nothing else does.
"""

from __future__ import annotations

import os
from itertools import zip_longest
from stat import S_IFMT, S_ISDIR, S_ISREG, S_ISSOCK
from typing import TYPE_CHECKING, Literal

from cache.changeset import CHUNK, NANOSECONDS
from cache.merged import Merged
from cache.tar_entry import Describer
from cache.upperdir import READ, READ_DIRECTORY, Entry, is_opaque, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.merged import Found

Kind = Literal["A", "C", "D"]
"""Added, changed, deleted."""


def same_result(a: str, b: str, *, since: int) -> bool:
    """Whether the upperdirs `a` and `b` hold the same: paths, types, modes, owners, links, xattrs and
    bytes.

    mtimes count as whole seconds, and only where that in `b`, the step that ran just now, is older than
    `since` (s since 1970): what a step writes gets the time at which it runs. With an epoch, `since` is the
    earlier one of the step's start and the epoch, for then everything later may have been clamped in `a`.
    Sockets do not count: no layer has them. Raises FormatError for what no layer can hold.
    """
    roots = [os.open(a, READ_DIRECTORY)]
    try:
        roots.append(os.open(b, READ_DIRECTORY))
        return _same_headers(roots[0], roots[1], since) and _same_contents(roots[0], roots[1])
    finally:
        for root in roots:
            os.close(root)


def _described(root: int) -> Iterator[tuple[Entry, bytes, bytes]]:
    """Yield each entry with its header, of mtime 0, and that of the opaque marker that follows, if any."""
    describer = Describer(root)
    for entry in walk(root):
        mode = entry.status.st_mode
        if S_ISSOCK(mode):
            continue
        first = describer.first_name(entry)
        if first is None and S_ISREG(mode):
            file = os.open(entry.path, READ, dir_fd=root)
            try:
                header = describer.header(entry, 0, file=file)
            finally:
                os.close(file)
        else:
            header = describer.header(entry, 0, first=first)
        yield entry, header, describer.opaque_marker(entry) if S_ISDIR(mode) else b""


def _same_headers(a: int, b: int, since: int) -> bool:
    for one, other in zip_longest(_described(a), _described(b)):
        if one is None or other is None or one[1:] != other[1:]:
            return False
        if one[0].whiteout:
            continue
        times = [each[0].status.st_mtime_ns // NANOSECONDS for each in (one, other)]
        if times[0] != times[1] and times[1] < since:
            return False
    return True


def _same_contents(a: int, b: int) -> bool:
    """Compare the data of all regular files of two upperdirs that have the same headers."""
    describer = Describer(a)
    return all(
        describer.first_name(entry) is not None or _same_data(a, b, entry.path, entry.status.st_size)
        for entry in walk(a)
        if S_ISREG(entry.status.st_mode) and entry.status.st_size
    )


def _same_data(a: int, b: int, path: bytes, size: int) -> bool:
    """Whether the regular files `path` of `size` bytes in two open directories have the same bytes."""
    files = [os.open(path, READ, dir_fd=a)]
    try:
        files.append(os.open(path, READ, dir_fd=b))
        while size:
            step = min(size, CHUNK)
            data = os.read(files[0], step)
            if not data or data != os.read(files[1], step):
                return False
            size -= len(data)
        return True
    finally:
        for file in files:
            os.close(file)


def changes(upper: str, lowerdirs: tuple[str, ...]) -> Iterator[tuple[Kind, str]]:
    """Yield what the upperdir changes in the view of `lowerdirs` (top first): ("A" | "C" | "D", "/path"),
    in order.

    A directory counts as changed for its own attributes only, not for what is in it, nor for its mtime; of
    a directory that is deleted, or replaced by something else, only itself is named. Raises FormatError for
    what no layer can hold.
    """
    root = os.open(upper, READ_DIRECTORY)
    try:
        with Merged(lowerdirs) as lowers:
            hidden = b"/"  # the opaque directory that we are in, with its slash; no path begins with one
            for entry in walk(root):
                if entry.directory >= 0 and not entry.path.startswith(hidden) and is_opaque(entry.directory):
                    hidden = entry.name
                yield from _changes(root, entry, lowers, opaque=entry.name.startswith(hidden))
    finally:
        os.close(root)


def _changes(root: int, entry: Entry, lowers: Merged, *, opaque: bool) -> Iterator[tuple[Kind, str]]:
    if S_ISSOCK(entry.status.st_mode):
        return
    below = lowers.lookup(entry.path)
    if entry.whiteout:
        if below is not None:
            yield "D", _shown(entry.path)
    elif below is None:
        yield "A", _shown(entry.path)
    elif _differs(root, entry, below):
        yield "C", _shown(entry.path)
    if opaque and entry.directory >= 0:
        there = set(map(os.fsencode, os.listdir(entry.directory)))
        for name in lowers.names(entry.path):
            if name not in there:
                yield "D", _shown(entry.name + name)


def _shown(path: bytes) -> str:
    return "/" + os.fsdecode(path)


def _differs(root: int, entry: Entry, below: Found) -> bool:
    """Whether `entry` is not what lies below it; they may share nothing but the path."""
    status = below.status
    if S_IFMT(entry.status.st_mode) != S_IFMT(status.st_mode):
        return True
    if _alone(root, entry.path, entry.status) != _alone(below.root, entry.path, status):
        return True
    if S_ISDIR(status.st_mode):
        return False
    if entry.status.st_mtime_ns // NANOSECONDS != status.st_mtime_ns // NANOSECONDS:
        return True
    return S_ISREG(status.st_mode) and not _same_data(root, below.root, entry.path, status.st_size)


def _alone(root: int, path: bytes, status: os.stat_result) -> bytes:
    """The header of what is at `path`, as if it had no other names, and no mtime."""
    describer = Describer(root)
    if not S_ISDIR(status.st_mode) and not S_ISREG(status.st_mode):
        return describer.header(Entry(path, path, status, -1, False), 0)
    file = os.open(path, READ, dir_fd=root)
    try:
        return describer.header(Entry(path, path, status, file, False), 0, file=file)
    finally:
        os.close(file)
