"""What an overlay of lowerdirs shows, looked up in the lowerdirs themselves, without a mount.

Source: the kernel's Documentation/filesystems/overlayfs.rst. A name is that of the topmost layer which has
it; where that is a whiteout, there is none. Directories merge downwards until a layer has something else,
or an opaque one. The lowerdirs do not change meanwhile.
"""

from __future__ import annotations

import os
from stat import S_ISDIR
from typing import TYPE_CHECKING, NamedTuple

from cache import ownership
from cache.upperdir import READ_DIRECTORY, is_opaque, is_whiteout

if TYPE_CHECKING:
    from types import TracebackType

_MOST_KNOWN = 20_000
"""Directories: as many are remembered, so that memory does not grow with what a layer has."""


class Found(NamedTuple):
    """Where a path is: `root` is a descriptor of the lowerdir that has it."""

    root: int
    status: os.stat_result


class Merged:
    """A stack of lowerdirs, top first, as one tree. Paths are relative bytes; no symlink is followed."""

    def __init__(self, lowerdirs: tuple[str, ...]) -> None:
        self._roots: list[int] = []
        try:
            for lowerdir in lowerdirs:
                self._roots.append(os.open(lowerdir, READ_DIRECTORY))
        except OSError:
            self.close()
            raise
        self._stacks: dict[bytes, tuple[int, ...]] = {b"": tuple(self._roots)}

    def __bool__(self) -> bool:
        """Whether there is any lowerdir."""
        return bool(self._roots)

    def close(self) -> None:
        while self._roots:
            os.close(self._roots.pop())

    def __enter__(self) -> Merged:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def lookup(self, path: bytes) -> Found | None:
        """Return what the merged tree has at `path`, or None."""
        for root in self._stack(path.rpartition(b"/")[0]):
            status = _lstat(root, path)
            if status is not None:
                return None if is_whiteout(status) else Found(root, status)
        return None

    def owner(self, path: bytes) -> tuple[int, int]:
        """Return whose `path` is, as far as the layer that has it tells: (0, 0) where there is none."""
        found = self.lookup(path)
        return (0, 0) if found is None else ownership.owner_at(found.root, path, found.status)

    def names(self, path: bytes) -> list[bytes]:
        """Return the names in the merged directory `path`, sorted; [] if it is none."""
        found: dict[bytes, bool] = {}  # name -> whether it is there, and not a whiteout
        prefix = path + b"/" if path else b""
        for root in self._stack(path):
            directory = os.open(path or b".", READ_DIRECTORY, dir_fd=root)
            try:
                for name in map(os.fsencode, os.listdir(directory)):
                    if name not in found:
                        found[name] = not is_whiteout(os.lstat(prefix + name, dir_fd=root))
            finally:
                os.close(directory)
        return sorted(name for name, there in found.items() if there)

    def _stack(self, path: bytes) -> tuple[int, ...]:
        """The lowerdirs whose directory `path` is part of the merged one, top first; () if that is no
        directory.
        """
        known = self._stacks.get(path)
        if known is not None:
            return known
        if len(self._stacks) >= _MOST_KNOWN:
            self._stacks = {b"": tuple(self._roots)}
        unknown, above = [], path
        while above not in self._stacks:  # the root is known
            unknown.append(above)
            above = above.rpartition(b"/")[0]
        stack = self._stacks[above]
        for here in reversed(unknown):
            if not stack:
                break  # nor is there anything further down
            stack = self._stacks[here] = tuple(_narrow(stack, here))
        self._stacks[path] = stack
        return stack


def _narrow(stack: tuple[int, ...], path: bytes) -> list[int]:
    result = []
    for root in stack:
        status = _lstat(root, path)
        if status is None:
            continue
        if not S_ISDIR(status.st_mode):
            break
        result.append(root)
        directory = os.open(path, READ_DIRECTORY, dir_fd=root)
        try:
            if is_opaque(directory):
                break
        finally:
            os.close(directory)
    return result


def _lstat(root: int, path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path, dir_fd=root)
    except (FileNotFoundError, NotADirectoryError):
        return None
