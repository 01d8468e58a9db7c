"""What a stack of layer tars comes to, worked out from the tars alone, as plainly as can be.

The image-spec's layer.md: a layer's whiteouts (`.wh.NAME`, `.wh..wh..opq`) concern lower layers only, and
come before its other entries.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, field

Inode = tuple[int, str]
"""A file's bytes: the layer that has them, and the name that a hard link there names."""


@dataclass
class Reference:
    """`shown`: path -> what the image has there. `added`, `changed`: by layer. `gone`: by layer, the files
    that it deleted. `hid`: by layer, the bytes that nothing shows from it on."""

    total: int = 0
    shown: dict[str, Inode | None] = field(default_factory=dict)
    sizes: dict[Inode, int] = field(default_factory=dict)
    added: list[set[str]] = field(default_factory=list)
    changed: list[set[str]] = field(default_factory=list)
    gone: list[set[str]] = field(default_factory=list)
    hid: list[int] = field(default_factory=list)

    @property
    def wasted(self) -> int:
        return sum(self.hid)


@dataclass(frozen=True)
class Member:
    """A tar's entry. `inode` is None for what has no bytes of its own; `look` is a directory's mode and
    owner.
    """

    name: str
    directory: bool = False
    size: int = 0
    link: str = ""
    look: tuple[int, int, int] = (0, 0, 0)


def read(tar: bytes) -> list[Member]:
    """Return the members of a layer tar, as Python's own reader sees them."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return [
            Member(
                each.name.strip("/"),
                each.isdir(),
                each.size if each.isreg() else 0,
                each.linkname.strip("/") if each.islnk() else "",
                (each.mode, each.uid, each.gid),
            )
            for each in archive
        ]


def saved_layers(archive: bytes) -> list[list[Member]]:
    """Return the layers of what `pybuild save` wrote, the lowest first."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as outer:

        def content(name: str) -> bytes:
            file = outer.extractfile(name)
            assert file is not None
            return file.read()

        (manifest,) = json.loads(content("manifest.json"))
        return [read(content(name)) for name in manifest["Layers"]]


def work_out(layers: list[list[Member]]) -> Reference:
    """Lay the layers upon each other."""
    result = Reference()
    looks: dict[str, tuple[int, int, int] | None] = {}  # None: no directory
    for number, members in enumerate(layers):
        before, lost = dict(result.shown), dict(looks)
        for member in members:
            directory, _, name = member.name.rpartition("/")
            if name == ".wh..wh..opq":
                remove(result.shown, looks, directory, itself=False)
            elif name.startswith(".wh."):
                remove(result.shown, looks, f"{directory}/{name[4:]}".strip("/"))
        added, changed = set(), set()
        for member in members:
            path = member.name
            if path.rpartition("/")[2].startswith(".wh."):
                continue
            if not (member.directory and looks.get(path) is not None):
                remove(result.shown, looks, path)
            if path not in before:
                added.add(path)
            elif not (member.directory and looks.get(path) == member.look):
                changed.add(path)
            looks[path] = member.look if member.directory else None
            inode = None
            if not member.directory:
                inode = (number, member.link or path)
                if not member.link:
                    result.sizes[inode] = member.size
                    result.total += member.size
            result.shown[path] = inode
        result.added.append(added)
        result.changed.append(changed)
        result.gone.append(
            {path for path in before.keys() - result.shown.keys() if lost[path] is None}
            - replaced(before, result)
        )
        kept, had = set(result.shown.values()), set(before.values())
        result.hid.append(sum(result.sizes[inode] for inode in had - kept if inode is not None))
    return result


def replaced(before: dict[str, Inode | None], result: Reference) -> set[str]:
    """What went since something other than a directory stands where one was that it was in."""
    files = {path for path, inode in result.shown.items() if inode is not None}
    return {path for path in before if any(path[:at] in files for at in range(len(path)) if path[at] == "/")}


def remove(
    shown: dict[str, Inode | None],
    looks: dict[str, tuple[int, int, int] | None],
    path: str,
    *,
    itself: bool = True,
) -> None:
    for each in list(shown):
        if (itself and each == path) or each.startswith(path + "/") or (not path and not itself):
            del shown[each], looks[each]
