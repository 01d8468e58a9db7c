"""Cache mounts out of one store and into another: the same trees, or nothing at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings

from cache.cachemounts import CacheMounts, Identity, Request
from cache.cachemounts_export import DIGEST, MANIFEST, export
from cache.cachemounts_import import import_archive
from cache.cachemounts_merge import exchange
from cache.cachemounts_usage import all_mounts
from cache.errors import CacheError, DigestMismatch, FormatError
from cache.scratch import Scratch
from cache.store import Store
from tests.cache.scenes import ROOT, start, stop
from tests.changeset_fixtures.tars import Raw, folder, hard, link, pax, tar
from tests.changeset_fixtures.trees import Node, Tree, build, directory, normal, snapshot, trees

HOLD = """
import sys
from cache.store import Store
store = Store.open(sys.argv[1])
with store.cache_mounts.acquire(sys.argv[2], sharing="shared") as held:
    print(held.path, flush=True)
    sys.stdin.readline()
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": ROOT}
LEFT_OUT = frozenset(("char", "block", "whiteout", "socket"))


@pytest.fixture
def first(tmp_path: Path) -> Iterator[CacheMounts]:
    with Store.open(str(tmp_path / "first")) as store:
        yield store.cache_mounts


@pytest.fixture
def second(tmp_path: Path) -> Iterator[CacheMounts]:
    with Store.open(str(tmp_path / "second")) as store:
        yield store.cache_mounts
        left = [name for name in os.listdir(store.root + "/tmp") if not name.startswith("trash")]
        assert left == []


def put(mounts: CacheMounts, tree: Tree, mount_id: str = "a", **identity: object) -> str:
    """Make a mount of `tree`; return its directory."""
    with mounts.acquire(mount_id, **identity) as held:  # type: ignore[arg-type]
        build(tree, held.path)
        return held.path


def file(data: bytes = b"x", **attributes: object) -> Node:
    return Node("file", data=data, **attributes)  # type: ignore[arg-type]


@contextmanager
def two_stores() -> Iterator[tuple[CacheMounts, CacheMounts]]:
    """What of a store cache mounts need, twice; made in no time."""
    with tempfile.TemporaryDirectory() as directory:
        made = []
        for name in "12":
            os.makedirs(f"{directory}/{name}/tmp")
            made.append(CacheMounts(f"{directory}/{name}", Scratch(f"{directory}/{name}/tmp")))
        yield made[0], made[1]
        for mounts in made:
            assert mounts.scratch.settle() == [] and os.listdir(mounts.scratch.path) == []


def exported(mounts: CacheMounts) -> bytes:
    out = io.BytesIO()
    export(mounts, [mount.name for mount in all_mounts(mounts)], out)
    return out.getvalue()


def imported(mounts: CacheMounts, archive: bytes, *, replace: bool = False) -> None:
    import_archive(mounts, io.BytesIO(archive), replace=replace)


def the_tree(mounts: CacheMounts) -> Tree:
    (mount,) = all_mounts(mounts)
    return snapshot(f"{mounts.path}/{mount.name}/data", seconds=False)


def without_devices(tree: Tree) -> Tree:
    return {path: node for path, node in normal(tree).items() if node.kind not in LEFT_OUT}


@given(tree=trees(plain=True))
@settings(max_examples=25)
def test_a_tree_comes_out_of_another_store_as_it_went_into_the_first(tree: Tree) -> None:
    with two_stores() as (one, two):
        before = snapshot(put(one, tree), seconds=False)
        archive = exported(one)
        imported(two, archive)
        assert the_tree(two) == without_devices(before)
        assert exported(two) == archive
        imported(two, archive)
        assert the_tree(two) == without_devices(before)


@given(old=trees(plain=True), new=trees(plain=True))
@settings(max_examples=25)
def test_a_merge_keeps_what_the_archive_lacks_and_takes_what_both_have_from_the_archive(
    old: Tree, new: Tree
) -> None:
    with two_stores() as (one, two):
        new = without_devices(snapshot(put(one, new), seconds=False))
        path = put(two, old)
        old = snapshot(path, seconds=False)
        imported(two, exported(one))
        found = snapshot(path, seconds=False)
        stays = {
            name: node
            for name, node in old.items()
            if name not in new and all(new.get(above, directory()).kind == "dir" for above in parents(name))
        }
        assert found.keys() == new.keys() | stays.keys()
        for name, node in (stays | new).items():
            tree = old if name in stays else new
            assert bare(content(found, found[name])) == bare(content(tree, node)), name


def parents(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[:depth]) for depth in range(1, len(parts))]


def content(tree: Tree, node: Node) -> Node:
    return node if node.same is None else tree[node.same]


def bare(node: Node) -> Node:
    """Without which name is the first of a hard link."""
    return Node(**{field: getattr(node, field) for field in node.__dataclass_fields__ if field != "same"})


def test_everything_that_a_cache_lives_by_survives(first: CacheMounts, second: CacheMounts) -> None:
    """The directory's own attributes, times to the nanosecond, names that a layer could not hold."""
    tree: Tree = {
        b"d": directory(mode=0o2775, uid=5, gid=6, mtime=-1_500_000_000, xattrs=(("user.a", b"\0"),)),
        b"d/.wh.x": file(b"whiteout?", mtime=1_123_456_789_987_654_321),
        b"d/.wh..wh..opq": file(b""),
        b".wh..wh.plnk": directory(),
        b".wh..wh.plnk/1": file(b"1" * 3000, mode=0o4755, uid=4_000_000_000),
        b"same": Node("file", data=b"1" * 3000, mode=0o4755, uid=4_000_000_000, same=b".wh..wh.plnk/1"),
        b"link": Node("symlink", data=b"/etc/passwd", uid=7, mtime=1),
        b"other link": Node("symlink", data=b"/etc/passwd", uid=7, mtime=1, same=b"link"),
        b"pipe": Node("fifo"),
    }
    path = put(first, tree, "/root/.cache", uid=9, gid=10, mode=0o3770)
    os.setxattr(path, "user.root", b"r")
    os.utime(path, ns=(0, 123_456_789))
    archive = exported(first)
    imported(second, archive)
    assert the_tree(second) == snapshot(path, seconds=False)
    (mount,) = all_mounts(second)
    assert (mount.id, mount.uid, mount.gid, mount.mode) == ("/root/.cache", 9, 10, 0o3770)
    copy = f"{second.path}/{mount.name}/data"
    facts = os.stat(copy)
    assert (facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns) == (
        os.stat(path).st_mode,
        9,
        10,
        123_456_789,
    )
    assert os.getxattr(copy, "user.root") == b"r"
    with second.acquire("/root/.cache", uid=9, gid=10, mode=0o3770) as held:
        assert held.path == copy


def test_sockets_and_devices_are_left_out_and_counted(first: CacheMounts, second: CacheMounts) -> None:
    tree: Tree = {
        b"char": Node("char", device=(1, 3)),
        b"file": file(),
        b"socket": Node("socket"),
        b"whiteout": Node("whiteout"),
    }
    put(first, tree)
    out = io.BytesIO()
    (done,) = export(first, first.names(), out)
    assert (done.entries, done.left_out) == (1, 3)
    imported(second, out.getvalue())
    assert list(the_tree(second)) == [b"file"]


def test_several_mounts_and_instances_go_in_one_archive(first: CacheMounts, second: CacheMounts) -> None:
    with first.acquire("a", sharing="private") as one, first.acquire("a", sharing="private") as two:
        Path(one.path, "1").write_text("1")
        Path(two.path, "2").write_text("2")
    put(first, {b"b": file()}, "a", base="sha256:1 /src")
    put(first, {}, "\udcff\n")
    archive = exported(first)
    done = import_archive(second, io.BytesIO(archive))
    assert [each.merged for each in done] == [False] * 4
    assert second.names() == first.names()
    assert exported(second) == archive
    assert all(each.merged for each in import_archive(second, io.BytesIO(archive)))
    assert exported(second) == archive


def test_an_archive_of_nothing_is_one(first: CacheMounts, second: CacheMounts) -> None:
    assert import_archive(second, io.BytesIO(exported(first))) == []


def test_equal_mounts_give_equal_archives_whenever_they_were_made(
    first: CacheMounts, second: CacheMounts
) -> None:
    for mounts in (first, second):
        path = put(mounts, {b"x": file(), b"d": directory(), b"d/y": file()})
        os.utime(path, ns=(0, 5))
        os.utime(os.path.dirname(path) + "/used", (1, 1))
    assert exported(first) == exported(second)


def test_gnu_tar_reads_it_and_sha256sum_agrees(first: CacheMounts, tmp_path: Path) -> None:
    put(first, {b"d": directory(), b"d/f": file(b"data", mtime=1_500_000_000)}, "/go/pkg")
    archive = exported(first)
    (tmp_path / "a.tar").write_bytes(archive)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", "../a.tar"], cwd=tmp_path / "out", check=True)
    out = tmp_path / "out"
    assert sorted(os.listdir(out)) == sorted(["0", MANIFEST.decode(), DIGEST.decode()])
    assert json.loads((out / MANIFEST.decode()).read_text())["mounts"] == [
        {"id": "/go/pkg", "base": "", "uid": 0, "gid": 0, "mode": "0755"}
    ]
    assert (out / "0/d/f").read_bytes() == b"data"
    start_of_last = len(archive) - 1024 - 1024
    expected = hashlib.sha256(archive[:start_of_last]).hexdigest()
    assert (out / DIGEST.decode()).read_text().strip() == expected


def test_replace_keeps_nothing(first: CacheMounts, second: CacheMounts) -> None:
    put(first, {b"new": file(b"new")})
    path = put(second, {b"old": file(b"old"), b"d": directory(), b"d/e": file()})
    imported(second, exported(first), replace=True)
    assert list(the_tree(second)) == [b"new"]
    assert os.listdir(path) == ["new"]


def test_a_merge_copies_no_data_and_breaks_no_hard_links(first: CacheMounts, second: CacheMounts) -> None:
    put(first, {b"d": directory(), b"d/new": file(b"new")})
    path = put(
        second,
        {b"d": directory(mode=0o700), b"d/old": file(b"old"), b"e": directory(mtime=5), b"e/same": file()},
    )
    os.link(path + "/d/old", path + "/e/link")
    os.utime(path + "/e", ns=(5, 5))
    inode = os.stat(path + "/d/old").st_ino
    imported(second, exported(first))
    assert os.stat(path + "/d/old").st_ino == os.stat(path + "/e/link").st_ino == inode
    assert os.stat(path + "/e").st_mtime_ns == 5
    tree = the_tree(second)
    assert list(tree) == [b"d", b"d/new", b"d/old", b"e", b"e/link", b"e/same"]
    assert tree[b"d"] == directory()


def test_an_export_waits_for_who_uses_the_mount_and_makes_him_no_other_one(
    first: CacheMounts, tmp_path: Path
) -> None:
    put(first, {b"x": file()})
    holder = start(HOLD, str(tmp_path / "first"), "a")
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        said: list[str] = []

        def wait(mount_id: str) -> None:
            said.append(mount_id)
            stop(holder)

        export(first, first.names(), io.BytesIO(), on_wait=wait)
        assert said == ["a"]
    finally:
        stop(holder)


def test_who_wants_a_mount_while_it_is_written_waits_for_it(first: CacheMounts, tmp_path: Path) -> None:
    put(first, {b"x": file(os.urandom(3_000_000))})

    class Watched(io.BytesIO):
        user = None

        def write(self, data: object, /) -> int:
            if self.user is None:
                self.user = start(HOLD, str(tmp_path / "first"), "a")
            assert self.user.poll() is None
            return super().write(data)  # type: ignore[arg-type]

    out = Watched()
    export(first, first.names(), out)
    assert out.user is not None and out.user.stdout is not None
    try:
        assert os.path.dirname(out.user.stdout.readline().strip()) == f"{first.path}/{first.names()[0]}"
        assert len(first.names()) == 1
    finally:
        stop(out.user)


def test_an_import_waits_for_who_uses_the_mount(
    first: CacheMounts, second: CacheMounts, tmp_path: Path
) -> None:
    put(first, {b"new": file()})
    put(second, {b"old": file()})
    holder = start(HOLD, str(tmp_path / "second"), "a")
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        said: list[str] = []

        def wait(mount_id: str) -> None:
            said.append(mount_id)
            assert list(the_tree(second)) == [b"old"]
            stop(holder)

        import_archive(second, io.BytesIO(exported(first)), on_wait=wait)
        assert said == ["a"] and list(the_tree(second)) == [b"new", b"old"]
    finally:
        stop(holder)


def test_two_directories_trade_places_or_say_why_not(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    assert os.listdir(tmp_path / "a") == ["b"] and os.listdir(tmp_path / "b") == ["a"]
    with pytest.raises(FileNotFoundError):
        exchange(str(tmp_path / "a"), str(tmp_path / "c"))


# Archives that are damaged, or made to do harm


def sealed(*entries: Raw, mounts: Sequence[object] | None = None, version: int = 1) -> bytes:
    """An archive whose digest is right, of these entries."""
    one = {"id": "a", "base": "", "uid": 0, "gid": 0, "mode": "0755"}
    document = {"version": version, "mounts": [one] if mounts is None else mounts}
    body = tar(Raw(MANIFEST, data=json.dumps(document).encode()), *entries, end=b"")
    digest = hashlib.sha256(body).hexdigest().encode() + b"\n"
    return body + tar(Raw(DIGEST, data=digest))


def test_the_hostile_archives_below_are_otherwise_good_ones(second: CacheMounts) -> None:
    imported(second, sealed(folder(b"0/"), folder(b"0/d/"), Raw(b"0/d/x", data=b"x"), link(b"0/l", b"/etc")))
    assert list(the_tree(second)) == [b"d", b"d/x", b"l"]


HOSTILE: dict[str, Callable[[str], bytes]] = {
    "out by dots": lambda _: sealed(folder(b"0/"), Raw(b"0/../../escaped", data=b"x")),
    "out by many dots": lambda _: sealed(folder(b"0/"), Raw(b"0/" + b"../" * 30 + b"escaped")),
    "absolute": lambda out: sealed(folder(b"0/"), Raw(os.fsencode(out) + b"/escaped")),
    "through a symlink": lambda out: sealed(
        folder(b"0/"), link(b"0/a", os.fsencode(out)), Raw(b"0/a/escaped")
    ),
    "through a relative symlink": lambda _: sealed(
        folder(b"0/"), folder(b"0/a/"), link(b"0/b", b"../../../.."), Raw(b"0/b/escaped")
    ),
    "a directory over a symlink": lambda out: sealed(
        folder(b"0/"), link(b"0/a", os.fsencode(out)), folder(b"0/a/"), Raw(b"0/a/escaped")
    ),
    "a directory over a file": lambda _: sealed(folder(b"0/"), Raw(b"0/a"), folder(b"0/a/")),
    "a hard link out": lambda out: sealed(folder(b"0/"), hard(b"0/a", os.fsencode(out) + b"/precious")),
    "a hard link out by dots": lambda _: sealed(folder(b"0/"), hard(b"0/a", b"0/../id")),
    "a hard link to another mount": lambda _: sealed(folder(b"0/"), hard(b"0/a", b"1/x")),
    "a hard link to nothing": lambda _: sealed(folder(b"0/"), hard(b"0/a", b"0/b")),
    "a hard link to the root": lambda _: sealed(folder(b"0/"), hard(b"0/a", b"0/")),
    "a hard link to a directory": lambda _: sealed(folder(b"0/"), folder(b"0/a/"), hard(b"0/b", b"0/a")),
    "a device": lambda _: sealed(folder(b"0/"), Raw(b"0/sda", b"4", device=(b"0000010", b"0000000"))),
    "a whiteout": lambda _: sealed(folder(b"0/"), Raw(b"0/gone", b"3", device=(b"0000000", b"0000000"))),
    "a socket's type": lambda _: sealed(folder(b"0/"), Raw(b"0/x", b"Z")),
    "a mount that is a symlink": lambda out: sealed(link(b"0/", os.fsencode(out)), Raw(b"0/escaped")),
    "a mount that is a file": lambda _: sealed(Raw(b"0", b"0")),
    "no mount where there should be one": lambda _: sealed(),
    "a mount too many": lambda _: sealed(folder(b"0/"), folder(b"1/")),
    "mounts out of order": lambda _: sealed(folder(b"1/"), folder(b"0/")),
    "an entry twice": lambda _: sealed(folder(b"0/"), Raw(b"0/a"), Raw(b"0/a")),
    "entries out of order": lambda _: sealed(folder(b"0/"), Raw(b"0/b"), Raw(b"0/a")),
    "beside the mounts": lambda _: sealed(Raw(b"id", data=b"x"), folder(b"0/")),
    "the store's own files": lambda _: sealed(folder(b"0/"), Raw(b"0/x"), Raw(b"meta.json")),
    "a name by PAX": lambda _: sealed(folder(b"0/"), pax((b"path", b"0/../../escaped")), Raw(b"0/a")),
    "a name for all by PAX": lambda _: sealed(
        folder(b"0/"), pax((b"path", b"0/../escaped"), kind=b"g"), Raw(b"0/a")
    ),
    "an owner that there is none of": lambda _: sealed(
        folder(b"0/"), pax((b"uid", b"99999999999")), Raw(b"0/a")
    ),
    "a later version": lambda _: sealed(folder(b"0/"), version=2),
    "no manifest": lambda _: tar(folder(b"0/"), Raw(b"0/a")),
    "a manifest that is no JSON": lambda _: tar(Raw(MANIFEST, data=b"{")),
    "a manifest that is a list": lambda _: tar(Raw(MANIFEST, data=b"[]")),
    "a manifest without end": lambda _: tar(Raw(MANIFEST, data=b"[" * 100_000)),
    "a manifest of 8 GiB": lambda _: Raw(MANIFEST, size=b"77777777777").block(),
    "a manifest that is a symlink": lambda _: tar(link(MANIFEST, b"/etc/passwd")),
    "an image layer": lambda _: tar(folder(b"etc/"), Raw(b"etc/passwd", data=b"root::0:0::/:/bin/sh\n")),
    "no tar": lambda _: b"#!/bin/sh\necho hello\n" * 100,
    "nothing": lambda _: b"",
    "goes on after its digest": lambda _: sealed(folder(b"0/"))[:-1024] + tar(Raw(b"0/late")),
    "no digest": lambda _: tar(
        Raw(MANIFEST, data=b'{"version":1,"mounts":[{"id":"a","base":"","uid":0,"gid":0,"mode":"0755"}]}'),
        folder(b"0/"),
    ),
}
ONE = {"id": "a", "base": "", "uid": 0, "gid": 0, "mode": "0755"}
for _field, _value in (
    ("id", ""),
    ("id", 5),
    ("id", None),
    ("id", "a\0sha256:1"),
    ("id", "\ud800"),
    ("id", "x" * 5000),
    ("base", ["x"]),
    ("uid", -1),
    ("uid", 1 << 32),
    ("uid", True),
    ("gid", "0"),
    ("mode", 493),
    ("mode", "-755"),
    ("mode", "rwx"),
):
    HOSTILE[f"a manifest with {_field}={str(_value)[:9]!a}"] = lambda _, changed={_field: _value}: sealed(  # type: ignore[misc]
        folder(b"0/"), mounts=[ONE | changed]
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_has_changed(
    second: CacheMounts, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("keep")
    path = put(second, {b"old": file(b"old")})
    before = snapshot(str(tmp_path / "second" / "cachemounts"), seconds=False)
    for replace in (False, True):
        with pytest.raises(FormatError):
            imported(second, HOSTILE[name](str(outside)), replace=replace)
    assert os.listdir(outside) == ["precious"] and (outside / "precious").read_text() == "keep"
    assert os.stat(outside / "precious").st_nlink == 1
    assert second.scratch.settle() == []
    assert not list(tmp_path.rglob("*escaped*"))
    assert snapshot(str(tmp_path / "second" / "cachemounts"), seconds=False) == before
    assert os.listdir(path) == ["old"]


def test_an_archive_that_is_cut_anywhere_is_refused_and_nothing_is_left(
    first: CacheMounts, second: CacheMounts
) -> None:
    put(first, {b"d": directory(), b"d/x": file(b"y" * 700)})
    put(first, {b"z": file(b"z" * 700)}, "b")
    archive = exported(first)
    end = len(archive) - 1024  # of the two blocks of zeros after it
    for size in [*range(0, end, 256), end - 1]:
        with pytest.raises(FormatError):
            imported(second, archive[:size])
        assert second.names() == []
    imported(second, archive[:end])
    assert second.names() == first.names()


def test_a_changed_bit_anywhere_is_found(first: CacheMounts, second: CacheMounts) -> None:
    put(first, {b"d": directory(), b"d/x": file(b"y" * 700, xattrs=(("user.a", b"b"),))})
    archive = exported(first)
    for at in range(3, len(archive) - 1024 - 512 + 66, 41):
        changed = bytearray(archive)
        changed[at] ^= 1
        with pytest.raises(CacheError):
            imported(second, bytes(changed))
        assert second.names() == []


def test_other_data_of_the_same_length_is_not_what_was_exported(
    first: CacheMounts, second: CacheMounts
) -> None:
    put(first, {b"x": file(b"good")})
    with pytest.raises(DigestMismatch):
        imported(second, exported(first).replace(b"good", b"evil"))
    assert second.names() == []


def test_an_import_that_is_killed_leaves_the_store_as_it_was(
    first: CacheMounts, second: CacheMounts, tmp_path: Path
) -> None:
    put(first, {b"x": file(os.urandom(2_000_000))})
    put(second, {b"old": file(b"old")})
    archive = exported(first)
    script = """
import sys
from cache.cachemounts_import import import_archive
from cache.store import Store
import_archive(Store.open(sys.argv[1]).cache_mounts, sys.stdin.buffer)
"""
    half, feed = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "second")], stdin=half, cwd=ROOT, env=ENVIRONMENT
    )
    os.close(half)
    with open(feed, "wb") as pipe:
        pipe.write(archive[:1_000_000])
        pipe.flush()
        while not [n for n in os.listdir(tmp_path / "second" / "tmp") if n.startswith("cachemount-")]:
            assert process.poll() is None
        process.kill()
        process.wait()
    with Store.open(str(tmp_path / "second")) as again:
        assert list(the_tree(again.cache_mounts)) == [b"old"]
        assert os.listdir(again.root + "/tmp") == []


def test_memory_does_not_grow_with_the_mount(tmp_path: Path) -> None:
    """A tenth of the address space that the data would need is enough."""
    script = """
import resource, sys
from cache.cachemounts_export import export
from cache.cachemounts_import import import_archive
from cache.store import Store
store = Store.open(sys.argv[1])
mounts = store.cache_mounts
if sys.argv[2] == "export":
    action = lambda: export(mounts, mounts.names(), sys.stdout.buffer)
else:
    action = lambda: import_archive(mounts, sys.stdin.buffer)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (48 << 20), resource.RLIM_INFINITY))
action()
"""
    with (
        Store.open(str(tmp_path / "1")) as store,
        store.cache_mounts.acquire("a") as held,
        open(held.path + "/big", "wb") as big,
    ):
        big.truncate(300 << 20)
        big.write(b"start")
    out = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "1"), "export"], stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    into = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "2"), "import"], stdin=out.stdout, env=ENVIRONMENT
    )
    assert out.wait() == 0 and into.returncode == 0
    with Store.open(str(tmp_path / "2")) as store:
        (mount,) = all_mounts(store.cache_mounts)
        assert os.stat(f"{store.cache_mounts.path}/{mount.name}/data/big").st_size == 300 << 20
    shutil.rmtree(tmp_path / "2")


def test_identities_survive_as_they_are(first: CacheMounts, second: CacheMounts) -> None:
    identities = [Identity("é\udcff\t", "sha256:1 /a b", 1, 2, 0o7777), Identity("../x"), Identity(" ")]
    with first.acquire_all([Request(identity) for identity in identities]):
        pass
    done = import_archive(second, io.BytesIO(exported(first)))
    assert {each.identity for each in done} == set(identities)
