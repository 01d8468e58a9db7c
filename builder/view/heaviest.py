"""The few paths that best tell where a layer's bytes are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.view.stack import Stack

_SHARE = 4
"""A directory with more than this part of all (1/4) is looked into."""


def heaviest(stack: Stack, layer: int, count: int) -> list[tuple[bytes, int]]:
    """Return up to `count` paths of a layer, no one within another, with their bytes, the largest first: a
    directory's end in a slash, and one that holds most of the layer gives way to what is in it.
    """
    sizes: dict[bytes, int] = {}
    below: dict[bytes, set[bytes]] = {}
    for path, node in stack.walk():
        size = sum(version.bytes for version in node.versions if version.layer == layer)
        if not size:
            continue
        child = path
        sizes[child] = size
        while child:
            directory = child.rstrip(b"/").rpartition(b"/")[0]
            directory = directory + b"/" if directory else b""
            sizes[directory] = sizes.get(directory, 0) + size
            below.setdefault(directory, set()).add(child)
            child = directory
    total = sizes.get(b"", 0)
    chosen = {b""} if total else set()
    while True:
        broad = [
            path
            for path in chosen
            if path in below and (sizes[path] * _SHARE > total or len(below[path]) == 1)
        ]
        if not broad:
            break
        path = max(broad, key=lambda each: (sizes[each], each))
        chosen.remove(path)
        chosen |= below[path]
    ordered = sorted(((path, sizes[path]) for path in chosen), key=lambda each: (-each[1], each[0]))
    return ordered[:count]
