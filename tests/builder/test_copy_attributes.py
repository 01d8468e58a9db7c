"""COPY: extended attributes, holes, special files and owners by name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from builder.errors import PlanError, StepFailed
from tests.build_fixtures.copying import OLD, Copying
from tests.build_fixtures.project import Project


@pytest.fixture
def copying(tmp_path: Path) -> Copying:
    return Copying(str(tmp_path))


def test_attributes_of_directories_come_along_but_not_onto_the_destination(copying: Copying) -> None:
    copying.write("d/sub/f", "x")
    for name in ("d", "d/sub"):
        os.setxattr(f"{copying.context}/{name}", "user.note", b"binary\0\xff")
        os.setxattr(f"{copying.context}/{name}", "trusted.secret", b"s")
    os.makedirs(f"{copying.root}/there/sub")
    os.setxattr(f"{copying.root}/there/sub", "user.other", b"kept")
    copying.copy("COPY d /new")
    copying.copy("COPY --chown=3 d /there")
    for name in ("new/sub", "there/sub"):
        assert os.getxattr(f"{copying.upper}/{name}", "user.note") == b"binary\0\xff"
        assert "trusted.secret" not in os.listxattr(f"{copying.upper}/{name}")
    assert os.getxattr(f"{copying.upper}/there/sub", "user.other") == b"kept"
    assert "user.note" not in os.listxattr(f"{copying.upper}/new")


def test_the_digest_is_of_what_is_copied(copying: Copying) -> None:
    """The attributes of directories below a source are, those of the source itself are not."""
    copying.write("d/sub/f", "x")
    before = copying.fingerprint("d")
    assert dict(before.files)["d/sub"] == "d755 "
    os.setxattr(f"{copying.context}/d", "user.note", b"1")
    assert copying.fingerprint("d") == before
    os.setxattr(f"{copying.context}/d/sub", "trusted.secret", b"1")
    assert copying.fingerprint("d") == before
    seen = {before.digest}
    for value in (b"1", b"2"):
        os.setxattr(f"{copying.context}/d/sub", "user.note", value)
        seen.add(copying.fingerprint("d").digest)
    assert len(seen) == 3


def test_attributes_of_directories_are_looked_up_in_the_stat_cache(project: Project) -> None:
    project.write("d/sub/f", "x")
    text = "FROM base\nCOPY d /d\n"
    assert project.build(text).outcomes == ["ran"]
    assert project.build(text).outcomes == ["cached"]
    os.setxattr(project.path("d/sub"), "user.note", b"1")
    assert project.build(text).outcomes == ["ran"]
    assert project.build(text).outcomes == ["cached"]


HOLE = 8 << 20


@pytest.mark.parametrize(
    "parts",
    [
        {0: b"begin", HOLE: b"middle", 3 * HOLE: b"end"},
        {HOLE: b"x"},
        {0: b"x" * 100_000},
        {},
    ],
    ids=["holes between", "a hole at the start", "a hole at the end", "nothing but a hole"],
)
def test_holes_stay_holes(copying: Copying, parts: dict[int, bytes]) -> None:
    path = copying.write("d/sparse", "")
    with open(path, "wb") as file:
        for offset, data in parts.items():
            file.seek(offset)
            file.write(data)
        file.truncate(5 * HOLE)
    os.utime(path, (OLD, OLD))
    copying.copy("COPY d /d")
    copied = f"{copying.upper}/d/sparse"
    with open(path, "rb") as one, open(copied, "rb") as other:
        while data := one.read(1 << 20):
            assert other.read(1 << 20) == data
        assert not other.read(1)
    assert os.stat(copied).st_blocks * 512 < 1 << 20
    assert os.stat(copied).st_mtime == OLD


def test_a_sparse_file_of_a_stage_stays_one(project: Project) -> None:
    """Through two overlays; its layer is the same as that of a dense file."""
    text = """\
FROM base
RUN mkdir /d && echo x > /d/f && chmod 4750 /d/f && busybox truncate -s 40M /d/f
FROM base
COPY --from=0 /d/ ./
"""
    outcome = project.build(text)
    status = project.files(outcome)["f"]
    assert (status.st_size, status.st_mode & 0o7777) == (40 << 20, 0o4750)
    assert status.st_blocks * 512 < 1 << 20
    assert project.unsound() == []


def test_special_files_of_a_stage(project: Project) -> None:
    text = """\
FROM base
RUN mkdir -p /d/sticky && chmod 3777 /d/sticky && busybox mkfifo -m 640 /d/fifo && chown 3:4 /d/fifo
RUN busybox mknod /d/null c 1 3 && busybox mknod /d/disk b 7 1 && chmod 604 /d/null
RUN echo x > /d/suid && chmod 6711 /d/suid
FROM base
COPY --from=0 /d /x
COPY --from=0 --chmod=600 /d/null /d/fifo /y/
"""
    found = project.files(project.build(text))

    def shown(path: str) -> tuple[str, int, int]:
        status = found[path]
        return stat.filemode(status.st_mode), status.st_uid, status.st_rdev

    assert shown("x/fifo") == ("prw-r-----", 3, 0)
    assert shown("x/null") == ("crw----r--", 0, os.makedev(1, 3))
    assert shown("x/disk")[0][0] == "b"
    assert shown("x/disk")[2] == os.makedev(7, 1)
    assert shown("x/suid")[0] == "-rws--s--x"
    assert shown("x/sticky")[0] == "drwxrwsrwt"
    assert shown("y/null") == ("crw-------", 0, os.makedev(1, 3))
    assert shown("y/fifo") == ("prw-------", 3, 0)


def test_a_device_that_would_delete_is_refused(copying: Copying) -> None:
    """0:0 is overlayfs's whiteout: in a layer it would hide the file below it."""
    os.mkdir(f"{copying.context}/d")
    os.mknod(f"{copying.context}/d/gone", stat.S_IFCHR | 0o600, 0)
    copying.write("x/gone", "kept", below=copying.root)
    with pytest.raises(PlanError) as caught:
        copying.copy("COPY d /x")
    assert caught.value.code == "copy/device"
    assert copying.files()["x/gone"] == "'kept' 644"
    copying.copy("COPY --exclude=gone d /x")


PASSWD = "root:x:0:0:root:/root:/bin/sh\nnginx:x:101:102::/:/bin/sh\n1000:x:7:7::/:/bin/sh\n"
GROUP = "root:x:0:\nnginx:x:102:\nwww-data:x:33:\n"
OWNERS = {
    "nginx": (101, 102),
    "nginx:www-data": (101, 33),
    "nginx:5": (101, 5),
    "5:nginx": (5, 102),
    "5": (5, 5),
    "0:0": (0, 0),
    "1000": (1000, 1000),
    ":www-data": (0, 33),
}


@pytest.mark.parametrize("owner", OWNERS)
def test_owners_are_looked_up_in_the_image(copying: Copying, owner: str) -> None:
    copying.write("etc/passwd", PASSWD, below=copying.root)
    copying.write("etc/group", GROUP, below=copying.root)
    copying.write("f", "x")
    copying.copy(f"COPY --chown={owner} f /made/f")
    for path in ("made", "made/f"):
        assert (copying.stat(path).st_uid, copying.stat(path).st_gid) == OWNERS[owner]


@pytest.mark.parametrize(
    ("owner", "hint"),
    [("ngnix", "nginx"), ("nginx:www-dat", "www-data"), ("5:ngnix", "nginx"), ("zebra", "number")],
)
def test_a_misspelt_owner_is_told(copying: Copying, owner: str, hint: str) -> None:
    copying.write("etc/passwd", PASSWD, below=copying.root)
    copying.write("etc/group", GROUP, below=copying.root)
    copying.write("f", "x")
    with pytest.raises(StepFailed) as caught:
        copying.copy(f"COPY --chown={owner} f /f")
    assert caught.value.code == "step/user"
    assert hint in str(caught.value.hint)
    assert copying.files().keys() == {"etc", "etc/passwd", "etc/group"}


def test_a_name_where_there_is_none_to_be_found(project: Project) -> None:
    """FROM scratch, and --link, which sees nothing of what is below. Numbers are fine there."""
    project.write("f", "x")
    for text in (
        "FROM scratch\nCOPY --chown=app f /f\n",
        "FROM base\nCOPY --link --chown=app f /f\n",
        "FROM base\nCOPY --link --chown=1:app f /f\n",
    ):
        with pytest.raises(StepFailed) as caught:
            project.build(text)
        assert caught.value.code == "step/user"
        assert "--link" in str(caught.value.hint)
        assert caught.value.span is not None
    outcome = project.build("FROM scratch\nCOPY --link --chown=7:8 f /f\n")
    status = project.files(outcome)["f"]
    assert (status.st_uid, status.st_gid) == (7, 8)


def test_a_name_that_an_earlier_step_made(project: Project) -> None:
    project.write("f", "x")
    text = "FROM base\nRUN echo new:x:42:43::/: >> /etc/passwd\nCOPY --chown=new f /f\n"
    status = project.files(project.build(text))["f"]
    assert (status.st_uid, status.st_gid) == (42, 43)
