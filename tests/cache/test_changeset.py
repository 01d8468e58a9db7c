"""Upperdir -> layer tar: the same tree always gives the same bytes, and every tool reads the tree back from
them.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import tar_format
from cache.changeset import Changeset, measure, unpack, write_tar
from cache.errors import FormatError
from tests.changeset_fixtures.trees import CAPABILITY, Node, Tree, build, directory, normal, snapshot, trees

EXAMPLES = settings(max_examples=40, deadline=None)
SECOND = 10**9


def tar_of(upper: str) -> tuple[bytes, Changeset]:
    out = io.BytesIO()
    changeset = write_tar(upper, out)
    return out.getvalue(), changeset


def times_in_seconds(tree: Tree) -> Tree:
    return {
        path: Node(**{**vars(node), "mtime": node.mtime // SECOND * SECOND}) for path, node in tree.items()
    }


@given(trees())
@EXAMPLES
def test_what_is_written_unpacks_to_the_same(tree: Tree) -> None:
    with TemporaryDirectory() as upper, TemporaryDirectory() as copy:
        build(tree, upper)
        data, written = tar_of(upper)
        assert written.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()
        assert written.size == len(data)
        assert unpack(io.BytesIO(data), copy) == written
        assert snapshot(copy, seconds=False) == times_in_seconds(snapshot(upper, seconds=False))
        assert tar_of(copy)[0] == data


@given(trees(), st.randoms(use_true_random=False))
@EXAMPLES
def test_the_tar_does_not_depend_on_the_order_in_which_the_tree_was_made(tree: Tree, random: object) -> None:
    order = sorted(tree)
    random.shuffle(order)  # type: ignore[attr-defined]
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        build(tree, one)
        build(tree, other, order)
        assert tar_of(one) == tar_of(other)


@given(trees(), st.one_of(st.none(), st.integers(0, 2_000_000_000)))
@EXAMPLES
def test_measuring_makes_the_disk_say_what_the_tar_says(tree: Tree, clamp: int | None) -> None:
    with TemporaryDirectory() as upper:
        build(tree, upper)
        before = snapshot(upper, seconds=False)
        measured = measure(upper, clamp=clamp)
        after = snapshot(upper, seconds=False)
        assert tar_of(upper)[1] == measured
        assert measure(upper, clamp=clamp) == measured
        for path, node in before.items():
            mtime = node.mtime // SECOND if clamp is None else min(node.mtime // SECOND, clamp)
            if node.kind != "whiteout":
                assert after[path].mtime == mtime * SECOND
        newest = [node.mtime // SECOND for node in after.values() if node.kind != "whiteout"]
        assert measured.newest == max([0, *newest])


@given(trees(plain=True))
@EXAMPLES
def test_gnu_tar_reads_the_same_tree(tree: Tree) -> None:
    with TemporaryDirectory() as upper, TemporaryDirectory() as copy:
        build(tree, upper)
        measure(upper, clamp=None)
        data, _ = tar_of(upper)
        command = ["tar", "-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", copy]
        command.append("--warning=no-timestamp")  # it is surprised by times before 1970 and after now
        done = subprocess.run(command, input=data, capture_output=True, check=True)
        assert not done.stderr
        assert without_percent(snapshot(copy)) == without_percent(snapshot(upper))


def without_percent(tree: Tree) -> Tree:
    """GNU tar takes %xx in an xattr's name for an escape; nobody else does."""
    return {
        path: Node(**{**vars(node), "xattrs": tuple(pair for pair in node.xattrs if "%" not in pair[0])})
        for path, node in tree.items()
    }


@given(trees())
@EXAMPLES
def test_pythons_tarfile_reads_the_same_entries(tree: Tree) -> None:
    with TemporaryDirectory() as upper:
        build(tree, upper)
        measure(upper, clamp=None)
        expected = snapshot(upper)
        data, changeset = tar_of(upper)
        with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
            members = archive.getmembers()
            seen = set()
            assert len(members) == changeset.entries
            for member in members:
                name = os.fsencode(member.name)
                parent, _, last = name.rpartition(b"/")
                if last == b".wh..wh..opq":
                    assert expected[parent].opaque
                    continue
                if last.startswith(b".wh."):
                    assert expected[name.replace(b".wh.", b"", 1)].kind == "whiteout"
                    continue
                node = expected[name]
                seen.add(name)
                assert (member.uid, member.gid) == (node.uid, node.gid)
                assert member.uname == member.gname == ""
                assert int(member.mtime) * SECOND == node.mtime
                if node.same is not None:
                    assert member.islnk() and os.fsencode(member.linkname) == node.same
                elif node.kind == "file":
                    file = archive.extractfile(member)
                    assert file is not None and file.read() == node.data
                elif node.kind == "symlink":
                    assert os.fsencode(member.linkname) == node.data
        assert seen == {path for path, node in expected.items() if node.kind != "whiteout"}


@given(trees())
@EXAMPLES
def test_the_names_in_the_tar_are_in_byte_order_but_for_opaque_markers(tree: Tree) -> None:
    with TemporaryDirectory() as upper:
        build(tree, upper)
        data, _ = tar_of(upper)
    names: list[bytes] = []
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        for member in archive:
            name = os.fsencode(member.name) + (b"/" if member.isdir() else b"")
            if name.endswith(b"/.wh..wh..opq"):
                assert names[-1] + b".wh..wh..opq" == name
            else:
                names.append(name)
    assert names == sorted(names)


def test_the_bytes_are_those_of_every_version(tmp_path: Path) -> None:
    """A change here changes the DiffID of every layer that is built again."""
    tree = {
        b"bin": directory(),
        b"bin/ping": Node("file", 0o4755, data=b"#!", xattrs=(("security.capability", CAPABILITY),)),
        b"bin/ping6": Node("file", same=b"bin/ping"),
        b"bin-old": Node("whiteout"),
        b"dev": directory(mode=0o1777),
        b"dev/null": Node("char", 0o666, device=(1, 3)),
        b"etc": directory(opaque=True),
        b"etc/" + b"n" * 101: Node("file", uid=3_000_000, mtime=-SECOND),
        "etc/é".encode(): Node("symlink", data=b"/somewhere"),
    }
    build(tree, str(tmp_path))
    data, changeset = tar_of(str(tmp_path))
    assert changeset.entries == 10
    assert changeset.newest == 1_000_000_000
    assert changeset.diff_id == "sha256:1afe38fe16c028b3fd05a9db7e9abff9a693930f0b349d471427b1f795ec0f7c", (
        data
    )


def test_an_empty_changeset_has_the_digest_that_everybody_knows(tmp_path: Path) -> None:
    empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    assert measure(str(tmp_path), clamp=None) == Changeset(empty, 1024, 0, 0)  # type: ignore[arg-type]


def test_sockets_vanish_without_a_trace(tmp_path: Path) -> None:
    tree = {b"run": directory(mtime=5 * SECOND + 7), b"run/s": Node("socket"), b"s": Node("socket")}
    build(tree, str(tmp_path))
    root = os.stat(tmp_path).st_mtime_ns
    assert tar_of(str(tmp_path))[1].entries == 1
    assert b"run/s" in snapshot(str(tmp_path))
    measure(str(tmp_path), clamp=None)
    assert snapshot(str(tmp_path), seconds=False) == {b"run": directory(mtime=5 * SECOND)}
    assert os.stat(tmp_path).st_mtime_ns == root


def test_writing_changes_nothing(tmp_path: Path) -> None:
    tree = {b"d": directory(mtime=SECOND + 1), b"d/f": Node("file", mtime=SECOND + 1, data=b"x")}
    build(tree, str(tmp_path))
    tar_of(str(tmp_path))
    assert snapshot(str(tmp_path), seconds=False) == normal(tree)


def test_the_overlays_own_attributes_and_the_hosts_stay_out(tmp_path: Path) -> None:
    build({b"d": directory()}, str(tmp_path))
    plain = tar_of(str(tmp_path))
    for name in ("trusted.overlay.origin", "trusted.overlay.impure", "trusted.x", "user.overlay.opaque"):
        os.setxattr(tmp_path / "d", name, b"y")
    os.setxattr(tmp_path / "d", "user.a=b", b"does not fit into PAX")
    assert tar_of(str(tmp_path)) == plain


def test_an_access_control_list_is_kept(tmp_path: Path) -> None:
    """Without it the group bits, which hold the list's mask, would let the owning group write."""
    acl = bytes.fromhex("0200000001000600ffffffff020006000100000004000400ffffffff")
    acl += bytes.fromhex("10000600ffffffff20000000ffffffff")
    build({b"f": Node("file", 0o640)}, str(tmp_path))
    os.setxattr(tmp_path / "f", "system.posix_acl_access", acl)
    data, _ = tar_of(str(tmp_path))
    copy = tmp_path / "copy"
    copy.mkdir()
    unpack([data], str(copy))
    assert os.getxattr(copy / "f", "system.posix_acl_access") == acl


@pytest.mark.parametrize("name", [b".wh.x", b"d/.wh.", b"d/.wh..wh..opq"])
def test_a_file_called_like_a_whiteout_is_refused(tmp_path: Path, name: bytes) -> None:
    build({b"d": directory(), name: Node("file")}, str(tmp_path))
    with pytest.raises(FormatError, match=r"marks deletions"):
        measure(str(tmp_path), clamp=None)


def test_a_path_that_no_tool_could_unpack_is_refused(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir(b"d" * 200, dir_fd=here)
        below = os.open(b"d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(FormatError, match="too long"):
        measure(str(tmp_path), clamp=None)
    subprocess.run(["rm", "-rf", str(tmp_path / ("d" * 200))], check=True)


def test_a_tree_as_deep_as_a_path_can_be_is_no_problem(tmp_path: Path) -> None:
    deep = b"/".join([b"d"] * 2040)
    tree = {deep[: 2 * depth - 1]: directory() for depth in range(1, 2041)}
    upper, copy = tmp_path / "upper", tmp_path / "copy"
    upper.mkdir()
    copy.mkdir()
    os.chdir(upper)
    try:
        build(tree, ".")
    finally:
        os.chdir("/")
    data, changeset = tar_of(str(upper))
    assert changeset.entries == 2040
    assert unpack([data], str(copy)) == changeset
    assert measure(str(copy), clamp=None) == changeset
    subprocess.run(["rm", "-rf", str(upper), str(copy)], check=True)


@pytest.mark.parametrize("size", [tar_format.MAX_NUMBER, tar_format.MAX_NUMBER + 1, 2**50])
def test_sizes_beyond_ustar_go_into_pax(size: int) -> None:
    header = tar_format.header(b"big", b"0", 0o644, 0, 0, size=size)
    assert (len(header) == 512) == (size <= 8 * 2**30 - 1)
    with tarfile.open(fileobj=io.BytesIO(header)) as archive:
        assert archive.next().size == size  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        (b"n" * 100, 1),
        (b"n" * 101, 3),
        (b"p" * 155 + b"/" + b"n" * 100, 1),
        (b"p" * 156 + b"/" + b"n" * 99, 3),
        (b"p" * 155 + b"/" + b"n" * 99 + b"/", 1),
        (b"/".join([b"d" * 30] * 6) + b"/", 1),
        ("é".encode(), 3),
    ],
)
def test_a_name_goes_into_pax_only_where_it_must(name: bytes, blocks: int) -> None:
    header = tar_format.header(name, b"5" if name.endswith(b"/") else b"0", 0o644, 0, 0)
    assert len(header) == blocks * 512
    with tarfile.open(fileobj=io.BytesIO(header)) as archive:
        member = archive.next()
        assert member is not None
        assert os.fsencode(member.name) == name.rstrip(b"/")


def test_memory_stays_flat_whatever_the_size_of_a_file(tmp_path: Path) -> None:
    upper, copy = tmp_path / "upper", tmp_path / "copy"
    upper.mkdir()
    copy.mkdir()
    with open(upper / "big", "wb") as file:
        file.truncate(64 * 2**20)
    tracemalloc.start()
    try:
        with open(tmp_path / "tar", "wb") as out:
            written = write_tar(str(upper), out)
        with open(tmp_path / "tar", "rb") as tar:
            assert unpack(tar, str(copy)) == written
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    assert os.stat(copy / "big").st_size == 64 * 2**20
