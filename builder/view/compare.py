"""Where two images differ: the same things as `pybuild diff`, looked up in the changesets themselves."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from cache.upperdir import READ, READ_DIRECTORY

if TYPE_CHECKING:
    from builder.view.facts import Facts
    from builder.view.scan import Item
    from builder.view.stack import Version

_CHUNK = 1 << 20
_NAMES = {"f": "file", "d": "directory", "l": "link"}


class Changed(NamedTuple):
    """A path that both images have, and `how` it differs."""

    path: bytes
    how: str


class Comparison(NamedTuple):
    """Paths of the first image only, of the second only, and those that differ, sorted."""

    gone: list[bytes]
    new: list[bytes]
    changed: list[Changed]


def compare(old: Facts, new: Facts) -> Comparison:
    """Compare what two images show: types, modes, owners, link targets, device numbers, bytes; times aside.

    What both have from the same changeset is not read.
    """
    before, after = _shown(old), _shown(new)
    changed = []
    with _Contents() as contents:
        for path in sorted(before.keys() & after.keys()):
            there, here = before[path], after[path]
            directories = old.diffs[there.layer], new.diffs[here.layer]
            if directories[0] == directories[1]:
                continue
            how = _how(there.item, here.item, directories, contents)
            if how:
                changed.append(Changed(path, ", ".join(how)))
    return Comparison(sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys()), changed)


def _shown(facts: Facts) -> dict[bytes, Version]:
    return {path: node.current for path, node in facts.stack.walk() if node.current is not None}


def _how(before: Item, after: Item, directories: tuple[str, str], contents: _Contents) -> list[str]:
    if before.kind != after.kind:
        return [
            f"type: {_NAMES.get(before.kind, 'special file')} -> {_NAMES.get(after.kind, 'special file')}"
        ]
    how = []
    if before.mode != after.mode:
        how.append(f"mode: {before.mode:04o} -> {after.mode:04o}")
    if before.owner != after.owner:
        how.append("owner: {}:{} -> {}:{}".format(*before.owner, *after.owner))
    if before.kind == "f" and before.size != after.size:
        how.append(f"size: {before.size} -> {after.size}")
    elif before.kind in "flcb":
        how += contents.differ(before.kind, directories, after.path)
    return how


class _Contents:
    """Reads from changesets, which it keeps open meanwhile."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}
        self._stack = ExitStack()

    def __enter__(self) -> _Contents:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def differ(self, kind: str, directories: tuple[str, str], path: bytes) -> list[str]:
        there, here = (self._root(directory) for directory in directories)
        if kind == "l":
            targets = [os.fsdecode(os.readlink(path, dir_fd=root)) for root in (there, here)]
            return [] if targets[0] == targets[1] else [f"target: {targets[0]} -> {targets[1]}"]
        if kind in "cb":
            numbers = [os.lstat(path, dir_fd=root).st_rdev for root in (there, here)]
            return [] if numbers[0] == numbers[1] else ["device number"]
        at = _first_difference(there, here, path)
        return [] if at is None else [f"content, from byte {at} on"]

    def _root(self, directory: str) -> int:
        if directory not in self._open:
            self._open[directory] = os.open(directory, READ_DIRECTORY)
            self._stack.callback(os.close, self._open[directory])
        return self._open[directory]


def _first_difference(old: int, new: int, path: bytes) -> int | None:
    with (
        open(os.open(path, READ, dir_fd=old), "rb") as there,
        open(os.open(path, READ, dir_fd=new), "rb") as here,
    ):
        at = 0
        while True:
            one, other = there.read(_CHUNK), here.read(_CHUNK)
            if one != other:
                length = min(len(one), len(other))
                return at + next((i for i in range(length) if one[i] != other[i]), length)
            if not one:
                return None
            at += len(one)
