"""Root file systems by plain copy and by fuse-overlayfs, where trees are as an adversary makes them."""

from __future__ import annotations

import os
from pathlib import Path

from cache.fullcopy import FullCopy
from cache.fusemarks import normalise
from cache.upperdir import remove_tree, walk

DEPTH = 1100
"""More than Python's stack, and than the descriptors that one may have."""


def deep(root: int, leaf: str) -> None:
    """Make a chain of directories, one in the other, with a file at its end."""
    path = ""
    for _ in range(DEPTH):
        path += "d" if not path else "/d"
        os.mkdir(path, 0o755, dir_fd=root)
    os.close(os.open(f"{path}/{leaf}", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=root))


def test_a_tree_of_any_depth_is_copied_and_compared(tmp_path: Path) -> None:
    for name in ("lower", "copy", "upper"):
        os.mkdir(tmp_path / name)
    roots = {name: os.open(tmp_path / name, os.O_RDONLY) for name in ("lower", "copy", "upper")}
    try:
        deep(roots["lower"], "below")
        path = "/".join("d" * DEPTH)
        os.utime(path, (1, 1), dir_fd=roots["lower"])
        copy = FullCopy(str(tmp_path / "copy"), lambda fd: 0)
        copy.fill((str(tmp_path / "lower"),))
        assert os.lstat(f"{path}/below", dir_fd=roots["copy"]).st_mode & 0o777 == 0o600
        assert os.lstat(path, dir_fd=roots["copy"]).st_mtime == 1
        os.close(os.open(f"{path}/new", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=roots["copy"]))
        copy.changeset(str(tmp_path / "upper"))
        names = [entry.path for entry in walk(roots["upper"])]
        assert len(names) == DEPTH + 1
        assert names[-1] == f"{path}/new".encode()
    finally:
        for name, root in roots.items():
            if "d" in os.listdir(root):
                remove_tree(root, b"d")
            os.close(root)
            os.rmdir(tmp_path / name)


def test_so_is_one_that_fuse_overlayfs_wrote(tmp_path: Path) -> None:
    for name in ("lower", "upper"):
        os.mkdir(tmp_path / name)
    root = os.open(tmp_path / "upper", os.O_RDONLY)
    try:
        deep(root, "new")
        os.setxattr(tmp_path / "upper/d", "user.fuseoverlayfs.opaque", b"y")
        normalise(str(tmp_path / "upper"), (str(tmp_path / "lower"),))
        assert os.listxattr(tmp_path / "upper/d") == []
        assert len(list(walk(root))) == DEPTH + 1
    finally:
        remove_tree(root, b"d")
        os.close(root)
