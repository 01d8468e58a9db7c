"""Layer tar -> upperdir, for whatever tar the tools of the field write."""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.changeset import Changeset, measure, unpack, write_tar
from tests.changeset_fixtures.tars import MAGIC_GNU, Raw, folder, hard, link, pax, tar
from tests.changeset_fixtures.trees import Node, Tree, build, directory, snapshot, trees

EXAMPLES = settings(max_examples=30, deadline=None)
SECOND = 10**9


def unpacked(data: bytes, target: Path) -> Tree:
    target.mkdir()
    changeset = unpack(io.BytesIO(data), str(target))
    assert changeset.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()
    assert changeset.size == len(data)
    return snapshot(str(target), seconds=False)


# What others write


def only_regular_hard_links(tree: Tree) -> Tree:
    """Neither tool finds those of other kinds."""
    return {path: node for path, node in tree.items() if node.same is None or node.kind == "file"}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(tree=trees(plain=True))
@EXAMPLES
def test_pythons_tars_unpack_to_the_tree_that_they_were_made_of(form: int, tree: Tree) -> None:
    """Each format holds as much as it can: xattrs no one of them, times with fractions and huge ids not
    all.
    """
    tree = {
        path: replace(node, xattrs=(), mtime=abs(node.mtime) // SECOND * SECOND)
        for path, node in only_regular_hard_links(tree).items()
    }
    if form == tarfile.USTAR_FORMAT:
        tree = {
            path: replace(
                node,
                uid=min(node.uid, 0o7777777),
                gid=min(node.gid, 0o7777777),
                mtime=min(node.mtime, 0o77777777777 * SECOND),
            )
            for path, node in tree.items()
        }
        tree = {
            path: node
            for path, node in tree.items()
            if max(map(len, path.split(b"/"))) < 100 and len(path) < 150 and len(node.data) < 100
        }
        # The name that a hard link leads to has 100 bytes, `./` before it, and no prefix.
        linked = {path for path in tree if len(path) <= 98}
        tree = {path: node for path, node in tree.items() if node.same is None or {node.same, path} <= linked}
    with TemporaryDirectory() as source, TemporaryDirectory() as target:
        build(tree, source)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as archive:
            archive.add(source, ".")
        unpack([buffer.getvalue()], target)
        expected = snapshot(source)
        assert snapshot(target, seconds=False) == expected


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "posix"])
@given(tree=trees(plain=True))
@EXAMPLES
def test_gnu_tars_unpack_to_the_tree_that_they_were_made_of(form: str, tree: Tree) -> None:
    """GNU tar's own formats hold no fractions of a second; the PAX format holds them, and xattrs."""
    tree = {path: replace(node, xattrs=()) for path, node in only_regular_hard_links(tree).items()}
    with TemporaryDirectory() as source, TemporaryDirectory() as target:
        build(tree, source)
        command = ["tar", "-c", f"--format={form}", "--numeric-owner", "-C", source, "."]
        data = subprocess.run(command, capture_output=True, check=True).stdout
        unpack([data], target)
        exact = form == "posix"
        assert snapshot(target, seconds=not exact) == snapshot(source, seconds=not exact)


@pytest.mark.parametrize("form", ["v7", "ustar"])
def test_old_tars_unpack_too(form: str, tmp_path: Path) -> None:
    tree = {
        b"d": directory(uid=1),
        b"d/f": Node("file", 0o4755, data=b"x" * 600),
        b"d/g": Node("file", 0o4755, data=b"x" * 600, same=b"d/f"),
        b"s": Node("symlink", 0, data=b"d"),
    }
    source = tmp_path / "source"
    source.mkdir()
    build(tree, str(source))
    command = ["tar", "-c", f"--format={form}", "-C", str(source), "d", "s"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    assert unpacked(data, tmp_path / "target") == tree


@pytest.mark.parametrize("form", ["gnu", "posix0.0", "posix0.1", "posix1.0"])
@pytest.mark.parametrize("pieces", [0, 1, 3, 4, 5, 30, 200])
def test_sparse_files_come_out_whole(form: str, pieces: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "holes", "wb") as file:
        for piece in range(pieces):
            file.seek(piece * 65536 + 4096)
            file.write(os.urandom(4097 if piece % 2 else 4096))
        file.truncate(pieces * 65536 + 12345)
    (source / "after").write_text("what comes next")
    options = ["--format=gnu"] if form == "gnu" else ["--format=posix", f"--sparse-version={form[5:]}"]
    command = ["tar", "-cS", *options, "-C", str(source), "holes", "after"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    assert len(data) < pieces * 8192 + 40960
    target = tmp_path / "target"
    unpacked(data, target)
    assert sorted(os.listdir(target)) == ["after", "holes"]
    for name in ("holes", "after"):
        assert (target / name).read_bytes() == (source / name).read_bytes()


def test_a_global_header_counts_for_what_follows_and_yields_to_its_own(tmp_path: Path) -> None:
    data = tar(
        Raw(b"before"),
        pax((b"comment", b"as git archive has it"), (b"mtime", b"5.25"), (b"uid", b"7"), kind=b"g"),
        Raw(b"after"),
        pax((b"mtime", b"6"), (b"uid", b"")),
        Raw(b"own", uid=b"0000012"),
    )
    tree = unpacked(data, tmp_path / "target")
    assert tree[b"before"].uid == 0
    assert (tree[b"after"].mtime, tree[b"after"].uid) == (5_250_000_000, 7)
    assert (tree[b"own"].mtime, tree[b"own"].uid) == (6 * SECOND, 10)


def test_base_256_numbers_are_read(tmp_path: Path) -> None:
    def big(value: int, width: int) -> bytes:
        return (value % (1 << (8 * width)) | 0x80 << (8 * (width - 1))).to_bytes(width, "big")

    data = tar(
        Raw(
            b"f", uid=big(4_000_000_000, 8), mtime=big(-5, 12), magic=MAGIC_GNU, size=big(3, 12), data=b"abc"
        ),
    )
    tree = unpacked(data, tmp_path / "target")
    assert tree == {b"f": Node("file", uid=4_000_000_000, mtime=-5 * SECOND, data=b"abc")}


def test_star_has_a_shorter_prefix(tmp_path: Path) -> None:
    prefix = b"p".ljust(131, b"\x00") + b"00000000000 00000000000 ".ljust(32, b"\x00") + b"tar\x00"
    assert list(unpacked(tar(Raw(b"f", prefix=prefix)), tmp_path / "target")) == [b"p", b"p/f"]


def test_gnus_prefix_field_holds_times_not_a_prefix(tmp_path: Path) -> None:
    data = tar(Raw(b"f", magic=MAGIC_GNU, prefix=b"07346545000\x0007346545000\x00"))
    assert list(unpacked(data, tmp_path / "target")) == [b"f"]


def test_a_signed_checksum_is_a_checksum(tmp_path: Path) -> None:
    entry = Raw(b"\xe9\xe8")
    block = bytearray(entry.block())
    block[148:156] = b"        "
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    data = tar(replace(entry, checksum=b"%06o\x00 " % signed))
    assert list(unpacked(data, tmp_path / "target")) == [b"\xe9\xe8"]


def test_the_last_blocks_padding_may_be_missing(tmp_path: Path) -> None:
    """`umoci insert` writes such tars."""
    assert list(unpacked(tar(Raw(b"f", data=b"data"), end=b"")[:600], tmp_path / "target")) == [b"f"]


@pytest.mark.parametrize("end", [b"", bytes(512), bytes(1024), bytes(10240), bytes(1024) + b"rubbish"])
def test_every_way_to_end_a_tar_is_taken_and_hashed(end: bytes, tmp_path: Path) -> None:
    assert list(unpacked(tar(Raw(b"f"), end=end), tmp_path / "target")) == [b"f"]


@given(trees(), st.integers(0, 2**32))
@EXAMPLES
def test_how_the_tar_is_cut_into_pieces_does_not_matter(tree: Tree, seed: int) -> None:
    with TemporaryDirectory() as source, TemporaryDirectory() as target:
        build(tree, source)
        out = io.BytesIO()
        written = write_tar(source, out)
        data = out.getvalue()
        generator = random.Random(seed)
        cuts = sorted(generator.choices(range(len(data)), k=40))
        pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert unpack(pieces, target) == written
        assert measure(target, clamp=None) == written


# Entries in any order, several times, with parts missing


@given(trees(), st.randoms(use_true_random=False))
@EXAMPLES
def test_the_order_of_entries_does_not_matter(tree: Tree, shuffle: random.Random) -> None:
    """But that of a hard link and its target, which no tool can take the other way round."""
    tree = {path: node for path, node in tree.items() if node.same is None}
    with TemporaryDirectory() as source, TemporaryDirectory() as target:
        build(tree, source)
        out = io.BytesIO()
        write_tar(source, out)
        expected = measure(source, clamp=None)
        data = out.getvalue()
        entries = cut(data)
        shuffle.shuffle(entries)
        unpack([*entries, bytes(1024)], target)
        assert measure(target, clamp=None) == expected


def cut(data: bytes) -> list[bytes]:
    """Part a tar into its entries, each with the extended header before it."""
    entries = []
    start = at = 0
    while data[at : at + 512] != bytes(512):
        kind, size = data[at + 156 : at + 157], int(data[at + 124 : at + 135], 8)
        at += 512 + size + -size % 512
        if kind != b"x":
            entries.append(data[start:at])
            start = at
    return entries


def test_the_last_of_several_entries_counts(tmp_path: Path) -> None:
    for first in (Raw(b"x", data=b"old"), folder(b"x"), link(b"x", b"/"), Raw(b"x", b"6"), Raw(b".wh.x")):
        for last in (Raw(b"x", data=b"new"), link(b"x", b"y"), Raw(b"x", b"6")):
            inside = [Raw(b"x/deep/in")] if first.kind == b"5" else []
            target = tmp_path / f"{first.kind!r}{first.name!r}-{last.kind!r}"
            alone = tmp_path / f"{target.name}-alone"
            assert unpacked(tar(first, *inside, last), target) == unpacked(tar(last), alone)


def test_a_directory_over_a_directory_keeps_what_is_in_it(tmp_path: Path) -> None:
    tree = unpacked(tar(folder(b"d"), Raw(b"d/f"), folder(b"d", b"0000700")), tmp_path / "target")
    assert (tree[b"d"].mode, b"d/f" in tree, tree[b"d"].opaque) == (0o700, True, False)


def test_a_directory_over_a_file_hides_what_the_file_hid(tmp_path: Path) -> None:
    assert unpacked(tar(Raw(b"d"), folder(b"d")), tmp_path / "target")[b"d"].opaque


def test_parents_that_are_missing_are_made_the_same_each_time(tmp_path: Path) -> None:
    tree = unpacked(tar(Raw(b"./a//b/./f")), tmp_path / "target")
    assert tree[b"a"] == tree[b"a/b"] == Node("dir", 0o755, mtime=0)


def test_absolute_names_are_relative_to_the_root(tmp_path: Path) -> None:
    data = tar(folder(b"/"), Raw(b"/etc/passwd", data=b"x"), hard(b"/etc/shadow", b"/etc/passwd"))
    assert list(unpacked(data, tmp_path / "target")) == [b"etc", b"etc/passwd", b"etc/shadow"]


def test_the_roots_own_attributes_stay(tmp_path: Path) -> None:
    unpacked(tar(folder(b"./", b"0000777")), tmp_path / "target")
    assert os.stat(tmp_path / "target").st_mode & 0o777 == 0o755


def test_only_a_layers_xattrs_are_set(tmp_path: Path) -> None:
    names = (b"user.kept", b"trusted.overlay.opaque", b"trusted.overlay.redirect", b"user.overlay.opaque")
    records = [(b"SCHILY.xattr." + name, b"y") for name in (*names, b"security.selinux", b"trusted.x")]
    data = tar(pax(*records), folder(b"d"), pax((b"SCHILY.xattr.user.nul", b"\x00\n=\xff")), Raw(b"f"))
    unpacked(data, tmp_path / "target")
    assert os.listxattr(tmp_path / "target/d") == ["user.kept"]
    assert os.getxattr(tmp_path / "target/f", "user.nul") == b"\x00\n=\xff"


# Whiteouts


def test_a_whiteout_spares_what_its_own_layer_has(tmp_path: Path) -> None:
    """image-spec, layer.md: whiteouts apply to lower layers only. A directory then hides the lower one's
    content.
    """
    entries = [Raw(b"f", data=b"new"), folder(b"d"), Raw(b"d/in")]
    marks = [Raw(b".wh.f"), Raw(b".wh.d"), Raw(b".wh.gone")]
    before = unpacked(tar(*marks, *entries), tmp_path / "before")
    after = unpacked(tar(*entries, *marks), tmp_path / "after")
    assert before == after
    assert before[b"f"].data == b"new"
    assert before[b"d"].opaque
    assert before[b"gone"].kind == "whiteout"


def test_an_opaque_marker_may_come_last(tmp_path: Path) -> None:
    first = unpacked(tar(Raw(b"d/.wh..wh..opq"), Raw(b"d/f")), tmp_path / "first")
    last = unpacked(tar(Raw(b"d/f"), Raw(b"d/.wh..wh..opq")), tmp_path / "last")
    assert first == last
    assert first[b"d"].opaque


def test_aufs_bookkeeping_is_dropped_but_its_hard_links_are_resolved(tmp_path: Path) -> None:
    """Images that were pushed from an AUFS host have it."""
    data = tar(
        folder(b".wh..wh.plnk"),
        Raw(b".wh..wh.plnk/1.2", data=b"shared"),
        Raw(b".wh..wh.aufs"),
        folder(b".wh..wh.orph"),
        hard(b"a", b".wh..wh.plnk/1.2"),
        hard(b"b", b".wh..wh.plnk/1.2"),
        Raw(b"d/.wh..wh.meta"),
    )
    tree = unpacked(data, tmp_path / "target")
    assert list(tree) == [b"a", b"b", b"d"]
    assert tree[b"b"].same == b"a" and tree[b"a"].data == b"shared"


def test_the_numbers_are_those_of_the_tar_that_came(tmp_path: Path) -> None:
    data = tar(folder(b"d"), Raw(b"d/f", mtime=b"07346545001"), pax((b"mtime", b"1")), Raw(b".wh.x"))
    target = tmp_path / "target"
    target.mkdir()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    assert unpack([data], str(target)) == Changeset(digest, len(data), 3, 0o7346545001)  # type: ignore[arg-type]
