"""What an image says and holds, read from the archive that `docker save` would write: one reader for all
builders.

It shares no code with pybuild, so that what one of pybuild's modules gets wrong is not got wrong here too.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from typing import IO, Any

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
XATTR = "SCHILY.xattr."
KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}


@dataclass(eq=False)
class Node:
    """An inode: hard links are paths with the same Node."""

    kind: str
    mode: str
    owner: str
    mtime: int
    content: str
    target: str
    device: str
    xattrs: dict[str, str]


Tree = dict[str, Node]


@dataclass
class Image:
    """The config, and the root filesystem with all layers on top of each other."""

    config: dict[str, Any]
    author: str
    tree: Tree


def read(path: str) -> Image:
    """Read the docker-archive at `path`."""
    with tarfile.open(path) as archive:

        def member(name: str) -> IO[bytes]:
            file = archive.extractfile(name)
            assert file is not None, f"{path}: {name} is no file"
            return file

        (manifest,) = json.load(member("manifest.json"))
        config = json.load(member(manifest["Config"]))
        tree: Tree = {}
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=member(name)) as layer:
                apply(layer, tree)
        assert len(manifest["Layers"]) == len(config["rootfs"]["diff_ids"]), path
    return Image(config.get("config") or {}, config.get("author") or "", tree)


def apply(layer: tarfile.TarFile, tree: Tree) -> None:
    """Put a layer on top of `tree`. What it removes is what stands below it."""
    entries = [(_path(member.name), member) for member in layer]
    for path, _ in entries:
        parent, _, name = path.rpartition("/")
        if name == OPAQUE:
            _remove_below(tree, parent)
        elif name.startswith(WHITEOUT):
            _remove(tree, f"{parent}/{name.removeprefix(WHITEOUT)}")
    for path, member in entries:
        if path.rpartition("/")[2].startswith(WHITEOUT):
            continue
        node = tree[_path(member.linkname)] if member.islnk() else _node(layer, member)
        if node.kind != "directory":
            _remove_below(tree, path)
        tree[path] = node


def _path(name: str) -> str:
    return "/" + "/".join(part for part in name.split("/") if part not in ("", "."))


def _remove(tree: Tree, path: str) -> None:
    tree.pop(path, None)
    _remove_below(tree, path)


def _remove_below(tree: Tree, path: str) -> None:
    below = path.rstrip("/") + "/"
    for other in [other for other in tree if other.startswith(below) and other != "/"]:
        del tree[other]


def _node(layer: tarfile.TarFile, member: tarfile.TarInfo) -> Node:
    kind = KINDS[member.type]
    content = ""
    if kind == "file":
        file = layer.extractfile(member)
        assert file is not None
        data = file.read()
        content = repr(data) if len(data) <= 200 else f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()}"
    return Node(
        kind,
        f"{member.mode & 0o7777:04o}",
        f"{member.uid}:{member.gid}",
        int(member.mtime),
        content,
        member.linkname if kind == "symlink" else "",
        f"{member.devmajor}:{member.devminor}" if kind.endswith("device") else "",
        {
            key.removeprefix(XATTR): repr(value.encode("utf-8", "surrogateescape"))
            for key, value in member.pax_headers.items()
            if key.startswith(XATTR)
        },
    )
