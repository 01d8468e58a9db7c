"""A tree as a value: {path: Node}. Made on the disk by `build`, read back by `snapshot`, drawn by `trees`."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass, replace

from hypothesis import strategies as st

OPAQUE = "trusted.overlay.opaque"
Xattrs = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Node:
    """`kind`: dir, file, symlink, fifo, char, block, whiteout, socket. `same`: the path it is a hard link
    to.
    """

    kind: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 1_000_000_000 * 10**9
    data: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Xattrs = ()
    opaque: bool = False
    same: bytes | None = None


Tree = dict[bytes, Node]


def directory(**attributes: object) -> Node:
    return Node("dir", **{"mode": 0o755, **attributes})  # type: ignore[arg-type]


def build(tree: Tree, root: str, order: list[bytes] | None = None) -> None:
    """Make `tree` in the directory `root`, its paths in `order` as far as parents and hard links allow."""
    base = os.fsencode(root) + b"/"
    left = list(order if order is not None else sorted(tree))
    while left:
        for path in left:
            node = tree[path]
            parent = path.rpartition(b"/")[0]
            if (not parent or os.path.isdir(base + parent)) and (
                node.same is None or os.path.lexists(base + node.same)
            ):
                _make(base, path, node)
                left.remove(path)
                break
        else:
            raise AssertionError(f"not a tree: {left}")
    for path, node in tree.items():
        if node.kind == "dir":
            for name, value in node.xattrs:
                os.setxattr(base + path, name, value)
            if node.opaque:
                os.setxattr(base + path, OPAQUE, b"y")
    for path in sorted(tree, reverse=True):
        node = tree[path]
        if node.kind == "dir":
            os.chown(base + path, node.uid, node.gid)
            os.chmod(base + path, node.mode)
        if node.same is None and node.kind != "whiteout":
            os.utime(base + path, ns=(0, node.mtime), follow_symlinks=False)


def _make(base: bytes, path: bytes, node: Node) -> None:
    full = base + path
    if node.same is not None:
        os.link(base + node.same, full, follow_symlinks=False)
        return
    if node.kind == "dir":
        os.mkdir(full)
        return
    if node.kind == "file":
        with open(full, "xb") as file:
            file.write(node.data)
    elif node.kind == "symlink":
        os.symlink(node.data, full)
    elif node.kind == "fifo":
        os.mkfifo(full)
    elif node.kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.open(os.path.dirname(full) or b".", os.O_RDONLY)
            try:
                listener.bind(b"/proc/self/fd/%d/" % here + os.path.basename(full))
            finally:
                os.close(here)
    elif node.kind == "whiteout":
        os.mknod(full, stat.S_IFCHR, 0)
        return
    else:
        os.mknod(full, {"char": stat.S_IFCHR, "block": stat.S_IFBLK}[node.kind], os.makedev(*node.device))
    os.chown(full, node.uid, node.gid, follow_symlinks=False)
    if node.kind != "symlink":
        os.chmod(full, node.mode)
    for name, value in node.xattrs:
        os.setxattr(full, name, value)


def snapshot(root: str, *, seconds: bool = True, marks: bool = True) -> Tree:
    """Read the tree below `root` back; of a hard link's names the first in byte order has the content.

    `seconds`: mtimes in whole ones. `marks`: overlayfs's; without them a mounted overlay can be read (which
    lists whiteouts of what no layer has, though nothing can be done with them).
    """
    base = os.fsencode(root) + b"/"
    paths = []
    for above, directories, files in os.walk(base):
        here = [os.path.join(above, name) for name in directories + files]
        paths += [path[len(base) :] for path in here if marks or os.path.lexists(path)]
    result: Tree = {}
    first: dict[int, bytes] = {}
    for path in sorted(paths, key=lambda path: path + b"/" if _is_dir(base + path) else path):
        node = _read(base + path, seconds, marks)
        status = os.lstat(base + path)
        if node.kind not in ("dir", "whiteout") and status.st_nlink > 1:
            original = first.setdefault(status.st_ino, path)
            if original != path:
                node = replace(node, same=original)
        result[path] = node
    return result


def _is_dir(full: bytes) -> bool:
    return stat.S_ISDIR(os.lstat(full).st_mode)


def _read(full: bytes, seconds: bool, marks: bool) -> Node:
    status = os.lstat(full)
    kind = {
        stat.S_IFDIR: "dir",
        stat.S_IFREG: "file",
        stat.S_IFLNK: "symlink",
        stat.S_IFIFO: "fifo",
        stat.S_IFCHR: "char",
        stat.S_IFBLK: "block",
        stat.S_IFSOCK: "socket",
    }[stat.S_IFMT(status.st_mode)]
    if kind == "char" and status.st_rdev == 0:
        return Node("whiteout")
    data = b""
    if kind == "file":
        with open(full, "rb") as file:
            data = file.read()
    elif kind == "symlink":
        data = os.readlink(full)
    names = os.listxattr(full, follow_symlinks=False)
    return Node(
        kind,
        0 if kind == "symlink" else stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns // 10**9 * 10**9 if seconds else status.st_mtime_ns,
        data,
        (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in ("char", "block") else (0, 0),
        tuple(
            (name, os.getxattr(full, name, follow_symlinks=False))
            for name in sorted(names)
            if not name.startswith("trusted.overlay.")
        ),
        marks and OPAQUE in names,
    )


def normal(tree: Tree) -> Tree:
    """`tree` as `snapshot` would read it: what is not kept of some kinds left out."""
    return {
        path: Node("whiteout")
        if node.kind == "whiteout"
        else replace(node, mode=0)
        if node.kind == "symlink"
        else node
        for path, node in tree.items()
    }


# Hypothesis

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep, version 2

_names = st.sampled_from(
    [
        b"a",
        b"b",
        b"a-b",
        b"a.b",
        b"ab",
        b"A",
        b" ",
        b"new\nline",
        b"\xff\xfe",
        "é".encode(),
        b"-",
        b"...",
        b"=",
        *(letter * length for letter, length in ((b"n", 99), (b"w", 120), (b"l", 255))),
    ]
)
_ids = st.sampled_from([0, 1, 1000, 65534, 0o7777777, 0o10000000, 4_000_000_000])
_mtimes = st.integers(-(2**31), 9_000_000_000).flatmap(
    lambda seconds: st.sampled_from([0, 1, 999_999_999]).map(lambda rest: seconds * 10**9 + rest)
)
_user_xattrs = st.dictionaries(
    st.sampled_from(["user.a", "user.b%", "user.\u00e9", "user.n" + "x" * 60]),
    st.binary(max_size=40),
    max_size=2,
)


@st.composite
def _node(draw: st.DrawFn) -> Node:
    kind = draw(st.sampled_from(["file", "file", "file", "symlink", "fifo", "char", "block", "whiteout"]))
    xattrs: dict[str, bytes] = {}
    data = b""
    if kind == "file":
        data = draw(st.one_of(st.binary(max_size=30), st.sampled_from([b"x" * 511, b"y" * 512, b"z" * 513])))
        xattrs = draw(_user_xattrs)
        if draw(st.integers(0, 9)) == 0:
            xattrs["security.capability"] = CAPABILITY
    elif kind == "symlink":
        data = draw(st.sampled_from([b"a", b"/etc/passwd", b"../../..", b"t" * 101, b"\xff", b"s" * 4000]))
    return Node(
        kind,
        draw(st.sampled_from([0o644, 0, 0o7777, 0o4755, 0o2755, 0o1777, 0o600])),
        draw(_ids),
        draw(_ids),
        draw(_mtimes),
        data,
        draw(st.sampled_from([(1, 3), (8, 0), (4095, 1048575)])) if kind in ("char", "block") else (0, 0),
        tuple(sorted(xattrs.items())),
    )


@st.composite
def trees(draw: st.DrawFn, *, plain: bool = False) -> Tree:
    """Draw a tree; a `plain` one has no whiteouts and opaque directories."""
    tree: Tree = {}
    for parts in draw(st.lists(st.lists(_names, min_size=1, max_size=5), max_size=14)):
        path = b"/".join(parts)
        parents = [b"/".join(parts[:depth]) for depth in range(1, len(parts))]
        if path in tree or any(tree.get(parent, directory()).kind != "dir" for parent in parents):
            continue
        for parent in parents:
            if parent not in tree:
                tree[parent] = draw(_directory(plain))
        node = draw(st.one_of(_node(), _directory(plain)))
        linkable = [
            known for known, other in tree.items() if other.kind not in ("dir", "whiteout") and not other.same
        ]
        if linkable and draw(st.integers(0, 4)) == 0:
            same = draw(st.sampled_from(sorted(linkable)))
            node = replace(tree[same], same=same)
        if not (plain and node.kind == "whiteout"):
            tree[path] = node
    return tree


def _directory(plain: bool) -> st.SearchStrategy[Node]:
    return st.builds(
        Node,
        kind=st.just("dir"),
        mode=st.sampled_from([0o755, 0o700, 0o1777, 0o2775, 0]),
        uid=_ids,
        gid=_ids,
        mtime=_mtimes,
        xattrs=_user_xattrs.map(lambda xattrs: tuple(sorted(xattrs.items()))),
        opaque=st.just(False) if plain else st.booleans(),
    )
