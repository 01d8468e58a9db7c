"""What differs between two images, as lines that a case can expect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.differential.archive import Image, Node, Tree

CONFIG = (
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
)
NODE = ("mode", "owner", "mtime", "content", "target", "device", "xattrs")


@dataclass(frozen=True)
class Difference:
    """`where`: a path, a key of the config, "author" or "outcome". `aspect`: what about it."""

    where: str
    aspect: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.where} {self.aspect}: pybuild has {self.ours}, the peer has {self.theirs}"


def differences(ours: Image, theirs: Image, started: int) -> list[Difference]:
    """Compare two images. Times from `started` on are "now": they say when a step ran."""
    found = list(_configs(ours.config, theirs.config))
    if ours.author != theirs.author:
        found.append(Difference("author", "value", ours.author, theirs.author))
    found += _trees(ours.tree, theirs.tree, started)
    return found


def _configs(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Difference]:
    for key in CONFIG:
        # A list without elements and a missing one say the same.
        one, other = ours.get(key) or None, theirs.get(key) or None
        if one != other:
            yield Difference(key, "value", str(one), str(other))


def _trees(ours: Tree, theirs: Tree, started: int) -> Iterator[Difference]:
    our_links, their_links = _links(ours), _links(theirs)
    for path in sorted({*ours, *theirs}):
        one, other = ours.get(path), theirs.get(path)
        if one is None or other is None:
            yield Difference(path, "presence", _kind(one), _kind(other))
            continue
        if one.kind != other.kind:
            yield Difference(path, "kind", one.kind, other.kind)
            continue
        for aspect in NODE:
            value, expected = _show(one, aspect, started), _show(other, aspect, started)
            if value != expected:
                of = "directory mtime" if aspect == "mtime" and one.kind == "directory" else aspect
                yield Difference(path, of, value, expected)
        if our_links[id(one)] != their_links[id(other)]:
            yield Difference(path, "links", " ".join(our_links[id(one)]), " ".join(their_links[id(other)]))


def _links(tree: Tree) -> dict[int, list[str]]:
    """Return all paths of each inode."""
    links: dict[int, list[str]] = defaultdict(list)
    for path in sorted(tree):
        links[id(tree[path])].append(path)
    return links


def _kind(node: Node | None) -> str:
    return "nothing" if node is None else f"a {node.kind}"


def _show(node: Node, aspect: str, started: int) -> str:
    if aspect == "mtime" and node.mtime >= started:
        return "now"
    if aspect == "mode" and node.kind == "symlink":
        return "0777"  # it has none: builders write what they like
    value = getattr(node, aspect)
    return " ".join(f"{key}={value[key]}" for key in sorted(value)) if aspect == "xattrs" else str(value)
