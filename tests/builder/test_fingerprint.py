"""Digests of many files at a time are those of each alone, and are remembered alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from builder.fingerprint import FileDigests, fingerprint
from builder.tree import Tree
from cache.store import Store

SIZES = (0, 1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 5)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """Some 400 files, in directories of many and of few."""
    top = tmp_path / "tree"
    for number in range(400):
        directory = top / f"d{number % 7}" / ("" if number % 3 else f"deep/er{number % 50}")
        directory.mkdir(parents=True, exist_ok=True)
        size = SIZES[number] if number < len(SIZES) else number
        (directory / f"f{number}").write_bytes(os.urandom(size))
    for path in top.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))
    tree = Tree(os.open(top, os.O_RDONLY | os.O_DIRECTORY), name="the tree")
    yield tree
    tree.close()


def test_many_files_at_a_time_have_the_digests_of_each(tree: Tree, tmp_path: Path) -> None:
    (selection,) = tree.select(".")
    files = [
        entry
        for entry in selection.entries
        if entry.nlink == 1 and not os.path.isdir(f"{tmp_path}/tree/{entry.path}")
    ]
    assert len(files) == 400
    alone = FileDigests(tree)
    together = FileDigests(tree)
    together.look_at(files)
    for entry in files:
        data = (tmp_path / "tree" / entry.path).read_bytes()
        assert together.digest(entry) == alone.digest(entry) == blake3(data).hexdigest()
    assert fingerprint(tree, [selection], FileDigests(tree), owners=True) == fingerprint(
        tree, [selection], alone, owners=True
    )


def test_what_was_hashed_at_once_is_in_the_stat_cache_and_is_not_read_again(
    tree: Tree, tmp_path: Path
) -> None:
    (selection,) = tree.select(".")
    with Store.open(str(tmp_path / "store")) as store:
        # The kernel's time of change cannot be set: what is as fresh as this is not remembered.
        digests = FileDigests(tree, store.stats, "tree")
        old = [entry._replace(ctime=10**18) for entry in selection.entries]
        digests.look_at(old)
        known = {entry.path: digests.digest(entry) for entry in old if entry.size and entry.mode & 0o100000}
        digests.save()
        rows = store.stats.load("tree")
        assert {path: rows[os.fsencode(path)][5].hex() for path in known} == known
        os.rename(tmp_path / "tree", tmp_path / "away")
        os.mkdir(tmp_path / "tree")
        again = FileDigests(Tree(os.open(tmp_path / "tree", os.O_RDONLY), name="empty"), store.stats, "tree")
        again.look_at(old)
        assert {entry.path: again.digest(entry) for entry in old if entry.path in known} == known


def test_a_file_that_is_gone_is_an_error_and_not_a_digest(tree: Tree, tmp_path: Path) -> None:
    (selection,) = tree.select(".")
    victim = next(entry for entry in selection.entries if entry.path.endswith("/f399"))
    os.unlink(tmp_path / "tree" / victim.path)
    with pytest.raises(FileNotFoundError):
        FileDigests(tree).look_at(selection.entries)
