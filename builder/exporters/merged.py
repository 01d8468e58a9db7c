"""The root filesystem that a stack of changesets is: one walk over all of them, whiteouts applied.

What overlayfs would show of the same lowerdirs (the kernel's Documentation/filesystems/overlayfs.rst), but
without a mount, and with what a mount does not tell: which layer a file is from, so that hard links stay
within their layer, as the image-spec has it (layer.md).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from stat import S_IFCHR, S_IFMT
from typing import TYPE_CHECKING, NamedTuple

from cache.upperdir import READ_DIRECTORY, is_opaque

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Entry(NamedTuple):
    """One thing in a root filesystem."""

    name: bytes
    """Its path from the root; a directory's ends in a slash."""
    path: bytes
    """The same, without that slash."""
    status: os.stat_result
    layer: int
    """Which of the roots it is from; with `status.st_ino` it tells hard links."""
    root: int
    """The descriptor of that root, from which `path` leads to it without a symlink on the way."""


@contextmanager
def opened(lowerdirs: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Give a descriptor for each of the directories."""
    roots: list[int] = []
    try:
        for path in lowerdirs:
            roots.append(os.open(path, READ_DIRECTORY))
        yield tuple(roots)
    finally:
        for root in roots:
            os.close(root)


def walk(roots: Sequence[int]) -> Iterator[Entry]:
    """Yield all that the changesets open as `roots`, the topmost first, are together; a directory before its
    contents.

    Within a directory in the byte order of the names, where a directory's ends in a slash: that of a layer's
    tar.
    """
    levels = [iter(_list(roots, b"", range(len(roots))))]
    while levels:
        for name, path, layers in levels[-1]:
            layer = layers[0]
            root = roots[layer]
            yield Entry(name, path, os.lstat(path, dir_fd=root), layer, root)
            if len(name) != len(path):
                levels.append(iter(_list(roots, name, layers)))
                break
        else:
            levels.pop()


def _list(roots: Sequence[int], prefix: bytes, layers: Sequence[int]) -> list[tuple[bytes, bytes, list[int]]]:
    """List the directory `prefix`, to which `layers` contribute, the topmost first: (name, path, layers),
    sorted.

    `layers` of a directory are those it is merged from; of anything else, the one that it is from.
    """
    found: dict[str, list[int]] = {}
    directories: set[str] = set()
    closed: set[str] = set()
    for layer in layers:
        directory = os.open(prefix or b".", READ_DIRECTORY, dir_fd=roots[layer])
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    name = entry.name
                    if name in closed:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        found.setdefault(name, []).append(layer)
                        directories.add(name)
                        continue
                    closed.add(name)  # it hides what is below, and a directory above it is not merged further
                    if name not in found and not _is_whiteout(entry):
                        found[name] = [layer]
            if is_opaque(directory):
                break
        finally:
            os.close(directory)
    result = []
    for name, origin in found.items():
        path = prefix + os.fsencode(name)
        result.append((path + b"/" if name in directories else path, path, origin))
    result.sort()
    return result


def _is_whiteout(entry: os.DirEntry[str]) -> bool:
    if entry.is_file(follow_symlinks=False) or entry.is_symlink():
        return False
    status = entry.stat(follow_symlinks=False)
    return S_IFMT(status.st_mode) == S_IFCHR and status.st_rdev == 0
