"""Layers that want out: whatever a tar says, nothing outside the target is made, changed or read."""

from __future__ import annotations

import io
import os
import random
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from cache.changeset import measure, unpack, write_tar
from cache.errors import FormatError, StoreFull
from cache.pending import Attributes, Pending
from tests.changeset_fixtures.tars import MAGIC_GNU, Raw, folder, hard, link, pax, tar
from tests.changeset_fixtures.trees import Node, build, directory, snapshot

OUTSIDE = {
    b"victim": directory(mode=0o700, uid=5),
    b"victim/file": Node("file", 0o600, 5, 5, data=b"secret"),
    b"victim/directory": directory(),
    b"victim/directory/inner": Node("file", data=b"inner"),
}


class Place:
    """A target beside things that no layer may touch, and the way to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        build(OUTSIDE, str(path))
        self.target = path / "target"
        self.target.mkdir()
        self.before = self.outside()

    def outside(self) -> dict[bytes, object]:
        tree = snapshot(str(self.path), seconds=False)
        status = os.stat(self.path)
        times = {b".": (status.st_mtime_ns, status.st_mode, status.st_uid)}
        return times | {path: node for path, node in tree.items() if not path.startswith(b"target")}

    def unpack(self, data: bytes) -> None:
        """Unpack `data`, whatever comes of it, and see that the outside is as it was."""
        try:
            unpack([data], str(self.target))
        finally:
            assert self.outside() == self.before
            secrets = [
                node for node in snapshot(str(self.target)).values() if node.data in (b"secret", b"inner")
            ]
            assert not secrets


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def escapes(outside: bytes) -> dict[str, tuple[Raw, ...]]:
    """Ways out, to the directory `outside` (absolute): each of them ends in something inside, or is
    refused.
    """
    victim = outside + b"/victim"
    return {
        "absolute name": (Raw(victim + b"/new", data=b"x"),),
        "absolute symlink": (link(b"a", victim), Raw(b"a/file", data=b"x")),
        "relative symlink": (link(b"a", b"../victim"), Raw(b"a/file", data=b"x")),
        "symlink far up": (link(b"a", b"../" * 60 + victim[1:]), Raw(b"a/file", data=b"x")),
        "symlink to the root": (link(b"a", b"/"), Raw(b"a" + victim + b"/file", data=b"x")),
        "symlinks in a row": (link(b"a", b".."), link(b"b", b"a/.."), Raw(b"b/victim/file", data=b"x")),
        "symlink in the last component": (link(b"a", victim + b"/file"), Raw(b"a", data=b"x")),
        "symlink, then a directory of that name": (
            link(b"a", victim),
            folder(b"a", b"0000777"),
            Raw(b"a/file"),
        ),
        "directory, then a symlink of that name": (folder(b"a", b"0000777"), Raw(b"a/x"), link(b"a", victim)),
        "directory in a directory that becomes a symlink": (
            folder(b"a", b"0000777"),
            folder(b"a/directory", b"0000777"),
            link(b"a", victim),
        ),
        "opaque directory that becomes a symlink": (folder(b"a"), Raw(b"a/.wh..wh..opq"), link(b"a", victim)),
        "symlink, then its attributes": (
            link(b"a", victim + b"/file"),
            Raw(b"a", b"2", link=b"x", uid=b"0000001"),
        ),
        "whiteout through a symlink": (link(b"a", victim), Raw(b"a/.wh.file")),
        "opaque marker through a symlink": (link(b"a", victim), Raw(b"a/.wh..wh..opq")),
        "file over a directory reached by a symlink": (link(b"a", victim), Raw(b"a/directory")),
        "symlink over a file reached by a symlink": (link(b"a", victim), link(b"a/file", b"x")),
        "device through a symlink": (link(b"a", victim), Raw(b"a/file", b"3", device=(b"1", b"3"))),
        "deep directories through a symlink": (link(b"a", victim), folder(b"a/b/c/d"), Raw(b"a/b/c/d/e")),
        "proc's magic links": (link(b"a", b"/proc/self/root" + victim), Raw(b"a/file", data=b"x")),
        "hard link to a symlink, then through it": (
            link(b"a", victim),
            hard(b"b", b"a"),
            Raw(b"b/file", data=b"x"),
        ),
        "hard link to a symlink to a file, then over it": (
            link(b"a", victim + b"/file"),
            hard(b"b", b"a"),
            Raw(b"b", data=b"x"),
        ),
        "parent's own bookkeeping": (link(b".wh..wh.plnk", victim), Raw(b".wh..wh.plnk/file", data=b"x")),
        "bookkeeping that is a symlink": (link(b".wh..wh.aufs", victim),),
        "other attributes": (
            pax(
                (b"SCHILY.xattr.trusted.overlay.redirect", victim),
                (b"SCHILY.xattr.trusted.overlay.metacopy", b""),
            ),
            folder(b"a"),
        ),
    }


@pytest.mark.parametrize("name", escapes(b""))
def test_nothing_gets_out(name: str, place: Place) -> None:
    place.unpack(tar(*escapes(os.fsencode(place.path))[name]))
    assert not any("redirect" in key for key in xattrs_below(place.target))


def xattrs_below(root: Path) -> set[str]:
    return {
        name
        for above, directories, files in os.walk(root)
        for entry in (*directories, *files)
        for name in os.listxattr(f"{above}/{entry}", follow_symlinks=False)
    }


def refused(outside: bytes) -> dict[str, tuple[bytes, str]]:
    """What is not even tried: (the tar, what the error says)."""
    file = Raw(b"f", data=b"data")
    wrong = file.bytes()
    long_path = b"/".join([b"d" * 200] * 25)
    return {
        "a name with ..": (tar(Raw(b"../victim/file")), "leads out"),
        "a name with .. inside": (tar(Raw(b"a/../../victim/file")), "leads out"),
        "a name with .. that stays inside": (tar(Raw(b"a/../b")), "leads out"),
        "a PAX name with ..": (tar(pax((b"path", b"../victim/file")), Raw(b"f")), "leads out"),
        "a GNU name with ..": (tar(Raw(b"l", b"L", b"../victim/new\x00"), Raw(b"f")), "leads out"),
        "a hard link out": (tar(hard(b"a", b"../victim/file")), "leads out"),
        "a hard link out by its absolute name": (
            tar(hard(b"a", outside + b"/victim/file")),
            "does not exist",
        ),
        "a hard link out through a symlink": (
            tar(link(b"a", outside + b"/victim"), hard(b"b", b"a/file")),
            "does not exist",
        ),
        "a hard link to nothing": (tar(hard(b"a", b"b")), "does not exist"),
        "a hard link to the root": (tar(hard(b"a", b"/")), "does not exist"),
        "a hard link to a directory": (tar(folder(b"d"), hard(b"a", b"d")), "directory"),
        "a hard link to what it replaces": (tar(Raw(b"d/f"), hard(b"d", b"d/f")), "does not exist"),
        "a loop of symlinks": (tar(link(b"a", b"b"), link(b"b", b"a"), Raw(b"a/f")), "too many symlinks"),
        "a file as a parent": (tar(Raw(b"a"), Raw(b"a/f")), "not a directory"),
        "a whiteout of nothing": (tar(Raw(b"a/.wh.")), "whiteout"),
        "a whiteout of .": (tar(Raw(b"a/.wh..")), "whiteout"),
        "a whiteout of ..": (tar(Raw(b"a/.wh...")), "whiteout"),
        "a file in a whiteout": (tar(Raw(b".wh.a/f")), "whiteout"),
        "a root that is a symlink": (tar(link(b"./", outside)), "root"),
        "a root that is a file": (tar(Raw(b".")), "root"),
        "an unknown type": (tar(Raw(b"a", b"Z")), "type"),
        "a device that cannot be": (tar(Raw(b"a", b"3", device=(b"7777777", b"0"))), "device"),
        "a user that cannot be": (tar(pax((b"uid", b"4294967295")), Raw(b"a")), "id"),
        "a negative user": (tar(Raw(b"a", uid=b"\xff" * 8)), "id"),
        "a name longer than a path": (tar(pax((b"path", long_path)), Raw(b"f")), "too long"),
        "a component longer than a name": (tar(pax((b"path", b"n" * 256)), Raw(b"f")), "too long"),
        "a symlink to nothing": (tar(link(b"a", b"")), "symlink"),
        "a symlink longer than a path": (tar(pax((b"linkpath", b"t" * 4096)), link(b"a", b"")), "too long"),
        "a NUL in a name": (tar(pax((b"path", b"a\x00b")), Raw(b"f")), "NUL"),
        "a NUL in a link": (tar(pax((b"linkpath", b"a\x00b")), link(b"f", b"x")), "NUL"),
        "an attribute of no name": (tar(pax((b"SCHILY.xattr.user.", b"v")), Raw(b"f")), "cannot be made"),
        "an attribute that is too large": (
            tar(pax((b"SCHILY.xattr.user.a", b"v" * 70000)), Raw(b"f")),
            "cannot be made",
        ),
        "a wrong checksum": (tar(replace(file, checksum=b"012345\x00 ")), "checksum"),
        "a checksum that is none": (tar(replace(file, checksum=b"zzzzzz\x00 ")), "not a number"),
        "no tar at all": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8, "checksum|not a number"),
        "a tar that ends in a header": (wrong[:300], "cut short"),
        "a tar that ends in data": (wrong[:514], "cut short"),
        "an enormous size": (tar(replace(file, size=b"77777777777")), "cut short"),
        "a negative size": (tar(replace(file, size=b"\xff" * 12, magic=MAGIC_GNU)), "negative"),
        "an extended header of a negative size": (tar(Raw(b"x", b"x", size=b"\xff" * 12), file), "too long"),
        "an extended header without end": (tar(Raw(b"x", b"x", size=b"77777777777"), file), "too long"),
        "an extended header beyond measure": (tar(pax((b"comment", b"c" * 2**20)), file), "too long"),
        "an extended header at the end": (tar(pax((b"path", b"x"))), "ends after"),
        "a record without a length": (tar(Raw(b"x", b"x", b"path=x\n"), file), "malformed"),
        "a record of length 0": (tar(Raw(b"x", b"x", b"0 path=x\n"), file), "malformed"),
        "a record that is too short": (tar(Raw(b"x", b"x", b"3 path=x\n"), file), "malformed"),
        "a record that is too long": (tar(Raw(b"x", b"x", b"99 path=x\n"), file), "malformed"),
        "a record without =": (tar(Raw(b"x", b"x", b"9 path x\n"), file), "malformed"),
        "a record without a key": (tar(Raw(b"x", b"x", b"5 =x\n"), file), "malformed"),
        "a size in words": (tar(pax((b"size", b"many")), file), "not a number"),
        "a time in words": (tar(pax((b"mtime", b"noon")), file), "not a time"),
        "a lone zero block": (bytes(512) + wrong, "zero block"),
        "a sparse map out of order": (sparse(b"2\n512\n1\n0\n1\n"), "order"),
        "a sparse map beyond its file": (sparse(b"1\n9999\n2\n"), "order"),
        "a sparse map that does not fit the data": (sparse(b"1\n0\n1\n"), "fit"),
        "a sparse map of words": (sparse(b"one\n"), "malformed"),
        "a sparse map without end": (sparse(b"0" * 511 + b"\n"), "malformed"),
        "a sparse map of millions": (sparse(b"99999999\n"), "too many"),
        "a sparse map longer than the data": (sparse((b"400\n" + b"0\n0\n" * 400)[:512]), "cut short"),
        "an unknown sparse format": (tar(pax((b"GNU.sparse.major", b"2")), file), "unknown format"),
    }


def sparse(numbers: bytes) -> bytes:
    records = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"1000"))
    return tar(pax(*records), Raw(b"f", data=numbers.ljust(512, b"\x00") + b"ab"))


@pytest.mark.parametrize("name", refused(b""))
def test_what_makes_no_sense_is_one_clear_error(name: str, place: Place) -> None:
    data, message = refused(os.fsencode(place.path))[name]
    with pytest.raises(FormatError, match=message):
        place.unpack(data)


def test_special_files_are_made_as_they_are(place: Place) -> None:
    place.unpack(tar(Raw(b"null", b"3", mode=b"0000666", device=(b"1", b"3")), Raw(b"su", mode=b"0004755")))
    status = os.lstat(place.target / "null")
    assert stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
    assert os.lstat(place.target / "su").st_mode & 0o7777 == 0o4755


def test_a_time_out_of_reach_is_brought_back(place: Place) -> None:
    place.unpack(
        tar(pax((b"mtime", b"9" * 20)), Raw(b"late"), pax((b"mtime", b"-" + b"9" * 20)), Raw(b"early"))
    )
    assert os.lstat(place.target / "early").st_mtime < 0 < os.lstat(place.target / "late").st_mtime


def hole(size: int, name: bytes = b"f") -> bytes:
    """Return the entries of a file that is a hole but for its last two bytes."""
    records = (
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"%d" % size),
    )
    data = (b"1\n%d\n2\n" % (size - 2)).ljust(512, b"\x00") + b"ab"
    return pax(*records).bytes() + Raw(name, data=data).bytes()


def test_a_hole_takes_no_space(place: Place) -> None:
    unpack([hole(2**33), tar()], str(place.target))
    status = os.stat(place.target / "f")
    assert status.st_size == 2**33 and status.st_blocks < 100


@pytest.mark.parametrize(
    "entries", [hole(2**42), b"".join(hole(2**36, b"%d" % number) for number in range(20))]
)
def test_terabytes_of_holes_are_refused(entries: bytes, place: Place) -> None:
    """A layer is a plain tar: whoever packs this one anew, or hashes it, would write all of them."""
    with pytest.raises(StoreFull, match=r"sparse files, of which .* of holes") as caught:
        unpack([entries, tar()], str(place.target))
    assert caught.value.code == "layer/sparse"


def test_what_is_too_large_for_the_disk_is_refused_before_it_is_written(place: Place) -> None:
    entry = Raw(b"f", size=b"\x80\0\0\0\0\x10\0\0\0\0\0\0").block()
    with pytest.raises(StoreFull, match="disk has room for"):
        unpack([entry], str(place.target))
    assert os.listdir(place.target) == []


def test_a_step_that_leaves_terabytes_of_holes_is_told(place: Place) -> None:
    with open(place.target / "huge", "wb") as file:
        file.truncate(2**42)
    with pytest.raises(StoreFull, match="of which /huge is one"):
        measure(str(place.target), clamp=None)
    with open(place.target / "huge", "r+b") as file:
        file.truncate(2**20)
    assert measure(str(place.target), clamp=None).entries == 1


def test_directories_beyond_what_memory_holds_get_their_attributes(tmp_path: Path) -> None:
    pending = Pending(str(tmp_path / "target"), most=2000)
    for number in range(20):
        pending[b"d%d" % (number % 10)] = Attributes(number, 1, 2, 3, ((b"user.x", b"y"),))
    assert os.listdir(tmp_path) == []
    last = dict(pending)
    assert last == {
        b"d%d" % (number % 10): Attributes(number, 1, 2, 3, ((b"user.x", b"y"),)) for number in range(10, 20)
    }


def test_opaque_directories_are_not_remembered_without_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.unpack_target._MOST_MARKS", 1 << 20)
    name = b"/".join(b"d" * 250 for _ in range(15))
    entries = (Raw(b"%d/%s/.wh..wh..opq" % (number, name)).bytes() for number in range(300))
    with pytest.raises(FormatError, match="too many opaque directories"):
        unpack(entries, str(place.target))


def test_damaged_tars_raise_nothing_but_format_errors(tmp_path: Path) -> None:
    """A tar with everything in it, with bytes changed, cut out and doubled; header checksums often put
    right again.
    """
    place = Place(tmp_path)
    samples = [mixture(), ours(tmp_path)]
    generator = random.Random(20240229)
    failed = 0
    for number in range(300):
        data = damage(bytearray(samples[number % 2]), generator)
        place.target = tmp_path / f"target{number}"
        place.target.mkdir()
        place.before = place.outside()
        try:
            unpack(io.BytesIO(data), str(place.target))
        except FormatError:
            failed += 1
        assert place.outside() == place.before
        os.rename(place.target, tmp_path / f"target-{number}")
    assert 50 < failed < 250


def mixture() -> bytes:
    return tar(
        pax((b"comment", b"x"), kind=b"g"),
        folder(b"d"),
        pax((b"path", b"d/" + b"n" * 120), (b"mtime", b"1.5"), (b"SCHILY.xattr.user.a", b"v")),
        Raw(b"short", data=b"x" * 700),
        link(b"s", b"../victim"),
        Raw(b"s/through"),
        hard(b"h", b"d/" + b"n" * 98),
        Raw(b"l", b"L", b"d/" + b"g" * 150 + b"\x00"),
        Raw(b"x", data=b"y", magic=MAGIC_GNU),
        Raw(b"k", b"K", b"/victim/" + b"g" * 150 + b"\x00"),
        link(b"t", b"x"),
        Raw(b"d/.wh.gone"),
        Raw(b"d/.wh..wh..opq"),
        Raw(b"p", b"6"),
        Raw(b"c", b"3", device=(b"1", b"3")),
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"1000")),
        Raw(b"holes", data=b"1\n10\n2\n".ljust(512, b"\x00") + b"ab"),
    )


def ours(tmp_path: Path) -> bytes:
    upper = tmp_path / "target-upper"
    upper.mkdir()
    tree = {path: node for path, node in OUTSIDE.items() if node.kind == "dir"}
    tree |= {b"e" * 130: Node("symlink", data=b"victim"), b"victim/w": Node("whiteout"), b"f": Node("file")}
    build(tree, str(upper))
    out = io.BytesIO()
    write_tar(str(upper), out)
    return out.getvalue()


def damage(data: bytearray, generator: random.Random) -> bytes:
    for _ in range(generator.choice((1, 1, 2, 5))):
        at = generator.randrange(len(data))
        block = at // 512 * 512
        action = generator.randrange(6)
        if action == 0:
            del data[block : block + 512]
        elif action == 1:
            data[block:block] = data[block : block + 512]
        elif action == 2:
            del data[at:]
            return bytes(data)
        else:
            # Mostly the fields that mean something: name, numbers, type, link.
            where = block + generator.choice((generator.randrange(512), generator.randrange(160), 156))
            if where < len(data):
                data[where] = generator.choice(
                    (0, 0x2E, 0x2F, 0x30, 0x35, 0x37, 0x80, 0xFF, generator.randrange(256))
                )
            if generator.random() < 0.8 and len(data) >= block + 512:
                data[block + 148 : block + 156] = b" " * 8
                data[block + 148 : block + 156] = b"%06o\x00 " % sum(data[block : block + 512])
        if not data:
            return b""
    return bytes(data)
