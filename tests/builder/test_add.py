"""ADD of what is in the context: archives are unpacked, whatever they are called; all else is as with
COPY.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from builder.errors import PlanError
from tests.build_fixtures.project import Project


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mtime = 1_000_000_000
    info.mode = 0o640
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


PLAIN = archive(
    member("sub/", type=tarfile.DIRTYPE, mode=0o750, uid=5, gid=6),
    member("sub/file", b"content", uid=7, gid=8),
    member("link", type=tarfile.SYMTYPE, linkname="sub/file"),
)

KINDS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_told_by_its_content(project: Project, kind: str) -> None:
    project.write("no-name-that-tells", KINDS[kind](PLAIN))
    outcome = project.build("FROM base\nADD no-name-that-tells /dest\n")
    found = project.files(outcome, "dest")
    assert found.keys() == {"dest", "dest/sub", "dest/sub/file", "dest/link"}
    file, directory = found["dest/sub/file"], found["dest/sub"]
    assert (file.st_uid, file.st_gid, file.st_mode & 0o7777, file.st_mtime) == (7, 8, 0o640, 1_000_000_000)
    assert (directory.st_uid, directory.st_gid, directory.st_mode & 0o7777) == (5, 6, 0o750)
    assert project.read(outcome, "dest/sub/file") == b"content"


def test_chown_is_for_all_that_is_unpacked(project: Project) -> None:
    project.write("a.tar", PLAIN)
    found = project.files(project.build("FROM base\nADD --chown=3:4 a.tar /dest/\n"), "dest")
    assert {(status.st_uid, status.st_gid) for status in found.values()} == {(3, 4)}


def test_what_is_in_the_way_is_replaced_and_modes_are_the_archive_s(project: Project) -> None:
    """As BuildKit has it: --chmod is not for what is unpacked."""
    project.write("a.tar", PLAIN)
    text = """\
FROM base
RUN mkdir -p /x/link/full /real; echo kept > /real/kept; ln -s /real /x/sub
ADD --chmod=777 a.tar /x
"""
    outcome = project.build(text)
    found = project.files(outcome)
    assert (found["x/sub"].st_mode & 0o7777, found["x/sub/file"].st_mode & 0o7777) == (0o750, 0o640)
    assert stat.S_ISLNK(found["x/link"].st_mode)
    assert "real/file" not in found
    assert project.read(outcome, "real/kept") == b"kept\n"


def test_what_is_no_archive_is_copied(project: Project) -> None:
    project.write("fake.tar", "not a tar at all" * 100)
    project.write("short.tar.gz", gzip.compress(b"x"))
    project.write("empty.tar", bytes(10240))
    project.write("bad.gz", gzip.compress(PLAIN)[:4] + b"garbage")
    project.write("d/inner.tar", PLAIN)
    outcome = project.build("FROM base\nADD *.tar short.tar.gz bad.gz /x/\nADD d /d\nADD <<doc /x/\nt\ndoc\n")
    assert set(project.files(outcome, "x/")) == {
        "x/fake.tar",
        "x/empty.tar",
        "x/short.tar.gz",
        "x/bad.gz",
        "x/doc",
    }
    assert project.read(outcome, "d/inner.tar") == PLAIN, "an archive in a directory stays one"
    assert project.files(outcome)["x/fake.tar"].st_uid == 0


def test_copy_unpacks_nothing_nor_does_add_when_told_not_to(project: Project) -> None:
    project.write("a.tar", PLAIN)
    outcome = project.build("FROM base\nCOPY a.tar /copy/\nADD --unpack=false a.tar /add/\n")
    assert project.read(outcome, "copy/a.tar") == project.read(outcome, "add/a.tar") == PLAIN


def test_add_is_cached_and_another_step_than_copy(project: Project) -> None:
    project.write("a.tar", PLAIN)
    text = "FROM base\nADD a.tar /x/\n"
    first = project.build(text)
    assert project.build(text).outcomes == ["cached"]
    assert project.build(text.replace("ADD", "COPY")).outcomes == ["ran"]
    assert first.image.history[-1].created_by == "ADD a.tar /x/ # pybuild"
    project.write("a.tar", archive(member("other", b"x")))
    again = project.build(text)
    assert again.reasons == ["ADD a.tar changed: a.tar"]
    assert set(project.files(again, "x/")) == {"x/other"}
    assert project.unsound() == []


@pytest.mark.parametrize(
    "bad",
    [
        member("../../outside", b"x"),
        member("/../../../outside", b"x"),
        member("escape/outside", b"x"),
        member("hard", type=tarfile.LNKTYPE, linkname="../../../../outside"),
    ],
    ids=lambda pair: pair[0].name,
)
def test_no_archive_writes_outside_of_the_image(project: Project, bad: tuple[tarfile.TarInfo, bytes]) -> None:
    escape = member("escape", type=tarfile.SYMTYPE, linkname=project.directory)
    project.write("a.tar", archive(escape, bad))
    before = sorted(os.listdir(project.directory))
    try:
        project.build("FROM base\nADD a.tar /x/\n")
    except PlanError as error:
        assert error.code == "add/archive"
        assert error.span is not None
    assert not os.path.exists(os.path.join(project.directory, "outside"))
    assert {*before, "store"} >= set(os.listdir(project.directory))
    assert project.unsound() == []


@pytest.mark.parametrize(
    "data",
    [PLAIN[:700], gzip.compress(PLAIN * 1)[:-20], archive(member(".wh.gone"))],
    ids=["cut", "cut gzip", "layer"],
)
def test_a_damaged_archive_fails_the_step(project: Project, data: bytes) -> None:
    project.write("a.tar", data)
    with pytest.raises(PlanError) as caught:
        project.build("FROM base\nADD a.tar /x/\n")
    assert caught.value.code == "add/archive"
    assert caught.value.span is not None
    assert project.unsound() == []
