"""Changesets laid upon each other: which of their files the image still shows, and which bytes are wasted.

Pure: what it is given are the entries, the lowest layer's first. The rules are overlayfs's, and those of the
image-spec's layer.md: a whiteout hides a name with all that is below it; an opaque directory hides all that
lower layers have in it; a directory on a directory is merged with it, whatever else stands on a name hides
what was there.

*Bytes* are those of regular files. A hard link within a layer takes none: its file's are counted once, at a
name that the image shows, if there is one. What a layer holds, and the image does not show, is *wasted*: it
is stored and carried around all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from builder.view.scan import WHITEOUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from builder.view.scan import Item

Change = Literal["A", "C"]
"""Added, changed. What is deleted leaves no version behind, but a Deletion."""


@dataclass(slots=True, eq=False)
class Version:
    """What a layer has at a path. `bytes` are counted here; `hidden` is the layer that hides it, -1 if the
    image shows it; `retouched`: same size and time as what it replaced, so that most likely its mode or owner
    alone is another one.
    """

    layer: int
    change: Change
    item: Item
    bytes: int
    hidden: int = -1
    retouched: bool = False


@dataclass(slots=True, eq=False)
class Node:
    """A name in a directory, with all that the layers had there, the lowest one's first. `current` is what
    the layers so far show."""

    name: bytes
    children: dict[bytes, Node] = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)
    current: Version | None = None


@dataclass(slots=True, eq=False)
class Deletion:
    """A layer deleted `path`: so many `files` (all that are no directories), and `bytes` that lower layers
    hold."""

    layer: int
    path: bytes
    node: Node
    files: int
    bytes: int = 0


class Stack:
    """The layers of an image, laid upon each other."""

    def __init__(self, layers: Iterable[Iterable[Item]]) -> None:
        """Take the layers' entries, the lowest first, each directory before its contents."""
        self.root = Node(b"")
        self.deletions: list[Deletion] = []
        self.layers = 0
        self._links: dict[tuple[int, int], list[Version]] = {}
        for items in layers:
            self._apply(self.layers, items)
            self.layers += 1
        self._count_links_once()
        self._count_deletions()

    @property
    def total(self) -> int:
        """The bytes of all files of all layers."""
        return sum(version.bytes for _, node in self.walk() for version in node.versions)

    @property
    def wasted(self) -> int:
        """Those of them that the image does not show."""
        return sum(
            version.bytes for _, node in self.walk() for version in node.versions if version.hidden >= 0
        )

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """Yield each path that there ever was with its node, a directory before its contents, names
        sorted.
        """
        stack = [(b"", iter(_sorted(self.root)))]
        while stack:
            prefix, nodes = stack[-1]
            for node in nodes:
                path = prefix + node.name
                yield path, node
                if node.children:
                    stack.append((path + b"/", iter(_sorted(node))))
                    break
            else:
                stack.pop()

    def _apply(self, layer: int, items: Iterable[Item]) -> None:
        opaque: list[tuple[bytes, Node]] = []
        # Entries come sorted, so that the directory of most is that of the one before.
        prefix, parent = b"", self.root
        for item in items:
            head, _, name = item.path.rpartition(b"/")
            if head != prefix:
                prefix, parent = head, self._find(head)
            node = parent.children.get(name)
            if item.kind == WHITEOUT:
                if node is not None and node.current is not None:
                    self.deletions.append(Deletion(layer, item.path, node, _hide(node, layer)))
                continue
            if node is None:
                node = parent.children[name] = Node(name)
            self._put(layer, node, item)
            if item.opaque:
                opaque.append((item.path + b"/", node))
                for child in node.children.values():
                    _hide(child, layer)
        # An opaque directory within one has nothing left to hide: only those on top have something to tell.
        done: bytes | None = None
        for path, node in opaque:
            if done is None or not path.startswith(done):
                self._tell_hidden(layer, path, node)
                done = path

    def _find(self, path: bytes) -> Node:
        node = self.root
        for name in path.split(b"/") if path else ():
            child = node.children.get(name)
            if child is None:  # a tar need not name the directories that it puts files into
                child = node.children[name] = Node(name)
            node = child
        return node

    def _put(self, layer: int, node: Node, item: Item) -> None:
        before = node.current
        if before is None and node.versions and node.versions[-1].hidden == layer:
            before = node.versions[-1]  # hidden by an opaque directory of this layer: changed, not added
        if item.kind == "d" and node.current is not None and node.current.item.kind == "d":
            old = node.current.item
            if (old.mode, old.owner) == (item.mode, item.owner):
                return
        elif node.current is not None:
            _hide(node, layer)
        version = Version(layer, "A" if before is None else "C", item, item.size)
        if node.current is not None:  # a directory's own attributes; what is in it stays
            node.current.hidden = layer
        if before is not None and item.kind == "f":
            old = before.item
            version.retouched = (old.kind, old.size, old.mtime) == ("f", item.size, item.mtime)
        node.versions.append(version)
        node.current = version
        if item.inode:
            self._links.setdefault((layer, item.inode), []).append(version)

    def _tell_hidden(self, layer: int, prefix: bytes, directory: Node) -> None:
        """Note what an opaque directory hid for good, naming of a whole directory only itself."""
        levels = [(prefix, iter(_sorted(directory)))]
        while levels:
            prefix, nodes = levels[-1]
            for node in nodes:
                path = prefix + node.name
                if node.current is None:
                    files = _hidden_files(node, layer)
                    if files is not None:
                        self.deletions.append(Deletion(layer, path, node, files))
                elif node.current.item.kind == "d" and node.children:
                    levels.append((path + b"/", iter(_sorted(node))))
                    break
            else:
                levels.pop()

    def _count_links_once(self) -> None:
        """A file's bytes stay as long as one of its names does: they count there, else at the last one that
        went."""
        for versions in self._links.values():
            size = versions[0].item.size
            kept = next((each for each in versions if each.hidden < 0), None)
            if kept is None:
                kept = max(versions, key=lambda each: each.hidden)
            for version in versions:
                version.bytes = size if version is kept else 0

    def _count_deletions(self) -> None:
        for deletion in self.deletions:
            deletion.bytes = sum(
                version.bytes
                for node in _subtree(deletion.node)
                for version in node.versions
                if version.hidden == deletion.layer
            )


@dataclass(frozen=True, slots=True)
class Totals:
    """Of one layer: entries added, changed and deleted (files that are gone), its files' bytes, and the bytes
    of lower layers that it hid."""

    added: int
    changed: int
    deleted: int
    bytes: int
    hid: int


def totals(stack: Stack) -> tuple[Totals, ...]:
    """Return each layer's, the lowest first."""
    counts = [[0, 0, 0, 0, 0] for _ in range(stack.layers)]
    for _, node in stack.walk():
        for version in node.versions:
            counts[version.layer][0 if version.change == "A" else 1] += 1
            counts[version.layer][3] += version.bytes
            if version.hidden >= 0:
                counts[version.hidden][4] += version.bytes
    for deletion in stack.deletions:
        counts[deletion.layer][2] += max(1, deletion.files)
    return tuple(Totals(*each) for each in counts)


@dataclass(frozen=True, slots=True)
class Waste:
    """A path with bytes in layers that the image does not show: in `layers`, hidden by `hidden`."""

    path: bytes
    bytes: int
    layers: tuple[int, ...]
    hidden: tuple[int, ...]


def waste(stack: Stack) -> list[Waste]:
    """Return all of it, the largest first."""
    found = []
    for path, node in stack.walk():
        hidden = [version for version in node.versions if version.hidden >= 0 and version.bytes]
        if hidden:
            found.append(
                Waste(
                    path,
                    sum(version.bytes for version in hidden),
                    tuple(version.layer for version in hidden),
                    tuple(version.hidden for version in hidden),
                )
            )
    found.sort(key=lambda each: (-each.bytes, each.path))
    return found


def efficiency(total: int, wasted: int) -> float:
    """Return which part of the layers' bytes the image shows: 1.0 if all."""
    return 1.0 if not total else (total - wasted) / total


def _hide(node: Node, layer: int) -> int:
    """Hide all that is shown at `node` and below; return how much of it is no directory."""
    files = 0
    for each in _subtree(node):
        if each.current is not None:
            files += each.current.item.kind != "d"
            each.current.hidden = layer
            each.current = None
    return files


def _hidden_files(node: Node, layer: int) -> int | None:
    """Return how many files at `node` and below `layer` hid, None if it hid nothing at all there."""
    hidden = [
        version.item.kind != "d"
        for each in _subtree(node)
        for version in each.versions
        if version.hidden == layer
    ]
    return sum(hidden) if hidden else None


def _subtree(node: Node) -> Iterator[Node]:
    nodes = [node]
    while nodes:
        node = nodes.pop()
        yield node
        nodes.extend(node.children.values())


def _sorted(node: Node) -> Sequence[Node]:
    return sorted(node.children.values(), key=lambda each: each.name)
