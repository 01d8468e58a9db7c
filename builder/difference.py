"""What differs between two root filesystems, and how. Both are read through descriptors; nothing is
mounted anywhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from builder.tree import Entry, Tree

_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Difference:
    """A path that was added, changed or deleted. `how` says what changed, in words; "" for the other two."""

    kind: Literal["A", "C", "D"]
    path: str
    how: str = ""


def differences(old: Tree, new: Tree, *, times: bool = False) -> Iterator[Difference]:
    """Yield what is other in `new` than in `old`, in the byte order of paths; with `times`, mtimes count
    too.
    """
    before = {entry.path: entry for entry in all_entries(old)}
    after = {entry.path: entry for entry in all_entries(new)}
    for path in sorted(before.keys() | after.keys(), key=os.fsencode):
        there, here = before.get(path), after.get(path)
        if there is None:
            yield Difference("A", "/" + path)
        elif here is None:
            yield Difference("D", "/" + path)
        else:
            how = _how(old, there, new, here, times)
            if how:
                yield Difference("C", "/" + path, ", ".join(how))


def all_entries(tree: Tree) -> tuple[Entry, ...]:
    """Return every file of the tree, without its root."""
    return tree.select("/")[0].entries[1:]


def _how(old: Tree, before: Entry, new: Tree, after: Entry, times: bool) -> list[str]:
    if stat.S_IFMT(before.mode) != stat.S_IFMT(after.mode):
        return [f"type: {_kind(before)} -> {_kind(after)}"]
    how: list[str] = []
    if before.mode != after.mode:
        how.append(f"mode: {stat.S_IMODE(before.mode):04o} -> {stat.S_IMODE(after.mode):04o}")
    if (before.uid, before.gid) != (after.uid, after.gid):
        how.append(f"owner: {before.uid}:{before.gid} -> {after.uid}:{after.gid}")
    content = _content(old, before, new, after)
    if content:
        how.append(content)
    if times and before.mtime // 10**9 != after.mtime // 10**9:
        how.append(f"time: {before.mtime // 10**9} -> {after.mtime // 10**9}")
    return how


def _content(old: Tree, before: Entry, new: Tree, after: Entry) -> str:
    kind = stat.S_IFMT(before.mode)
    if kind == stat.S_IFLNK:
        there, here = old.readlink(before.path), new.readlink(after.path)
        return "" if there == here else f"target: {there} -> {here}"
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        return "" if before.rdev == after.rdev else "device number"
    if kind != stat.S_IFREG:
        return ""
    if before.size != after.size:
        return f"size: {before.size} -> {after.size}"
    at = _first_difference(old, before.path, new, after.path)
    return "" if at is None else f"content, from byte {at} on"


def _first_difference(old: Tree, before: str, new: Tree, after: str) -> int | None:
    with open(_open(old, before), "rb") as there, open(_open(new, after), "rb") as here:
        at = 0
        while True:
            one, other = there.read(_CHUNK), here.read(_CHUNK)
            if one != other:
                length = min(len(one), len(other))
                return at + next((i for i in range(length) if one[i] != other[i]), length)
            if not one:
                return None
            at += len(one)


def _open(tree: Tree, path: str) -> int:
    parent, name = tree.open_parent(path)
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)


def _kind(entry: Entry) -> str:
    names = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    return names.get(stat.S_IFMT(entry.mode), "special file")
