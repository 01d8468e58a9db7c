"""Contexts that are no directory, as the command takes them: a tar on standard input, a git repository, a
URL; and that what a stranger's recipe names stays within what came with it."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.command_fixtures.pybuild import Done, Pybuild
from tests.remote_fixtures.git_server import FIRST, GitServer, Repository
from tests.remote_fixtures.http_server import HttpServer

RECIPE = "FROM box\nCOPY . /got/\n"

KINDS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.fixture
def web() -> Iterator[HttpServer]:
    with HttpServer() as found:
        yield found


@pytest.fixture
def git(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "served") as found:
        yield found


def member(name: str, data: bytes | str = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    content = data.encode() if isinstance(data, str) else data
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(content), 1_000_000_000, 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Builder:
    """Builds, and looks at what is in /got of the image."""

    def __init__(self, pybuild: Pybuild, directory: Path) -> None:
        self.pybuild = pybuild
        self._directory = directory

    def feed(self, data: bytes, *argv: str, command: str = "build", **env: str) -> Done:
        """Run a command with `data` on its standard input."""
        path = self._directory / "stdin"
        path.write_bytes(data)
        with open(path, "rb") as stdin:
            return self.pybuild.try_(command, *argv, stdin=stdin, **env)

    def build(self, *argv: str, data: bytes | None = None, **env: str) -> dict[str, str]:
        """Return the files below /got, as path -> content."""
        where = ("-o", f"type=dir,dest={self._directory}/out")
        shutil.rmtree(self._directory / "out", ignore_errors=True)
        done = (
            self.feed(data, *argv, *where, **env)
            if data is not None
            else self.pybuild.try_("build", *argv, *where, **env)
        )
        assert done.code == 0, done.err
        got = self._directory / "out/got"
        files = [path for path in sorted(got.rglob("*")) if path.is_file() and not path.is_symlink()]
        assert os.listdir(f"{self.pybuild.root}/tmp") == []
        return {str(path.relative_to(got)): path.read_text(errors="replace") for path in files}


@pytest.fixture
def builder(pybuild: Pybuild, tmp_path: Path) -> Builder:
    return Builder(pybuild, tmp_path)


# Standard input


@pytest.mark.parametrize("kind", KINDS)
def test_a_tar_on_standard_input(builder: Builder, kind: str) -> None:
    tar = archive(
        member("Dockerfile", RECIPE),
        member("./dir/file", "content"),
        # Here it deletes nothing.
        member("dir/.wh.file", "left out"),
        member(".dockerignore", "**/.wh.*\n.dockerignore\n"),
    )
    assert builder.build("-", data=KINDS[kind](tar)) == {"Dockerfile": RECIPE, "dir/file": "content"}


def test_a_recipe_on_standard_input_reads_the_working_directory(builder: Builder) -> None:
    builder.pybuild.write("here", "here")
    assert builder.build("-", data=b"FROM box\nCOPY here /got/\n") == {"here": "here"}
    assert builder.build("-f", "-", ".", data=b"FROM box\nCOPY here /got/\n") == {"here": "here"}


def test_the_recipe_is_looked_for_in_the_tar(builder: Builder) -> None:
    tar = archive(
        member("sub/my.rec", "FROM ./base.rec\nCOPY file /got/\nINCLUDE part.rec\n"),
        member("sub/base.rec", "FROM box\nCOPY only /got/\n"),
        member("sub/only", "base"),
        member("sub/part.rec", "COPY other /got/\n"),
        member("file", "file"),
        member("other", "other"),
        member("ignored", "x"),
        member(".dockerignore", "other\n"),
        member("sub/my.rec.dockerignore", "ignored\n"),
    )
    assert builder.build("-f", "sub/my.rec", "-", data=tar) == {
        "only": "base",
        "file": "file",
        "other": "other",
    }


def test_its_ignore_file_counts(builder: Builder) -> None:
    tar = archive(
        member("Dockerfile", RECIPE),
        member(".dockerignore", "*\n!kept\n"),
        member("kept", "1"),
        member("gone", "2"),
    )
    assert builder.build("-", data=tar) == {"kept": "1"}


def test_the_same_tar_hits(builder: Builder) -> None:
    tar = archive(member("Dockerfile", RECIPE), member("file", "content"))
    first, second = builder.feed(tar, "-"), builder.feed(tar, "-")
    assert first.out == second.out
    assert "0 steps run" in second.err


def test_errors_call_the_recipe_as_it_is_called_in_its_context(builder: Builder) -> None:
    done = builder.feed(archive(member("Dockerfile", "FROM box\nCOPY none /x\n")), "-")
    assert done.code == 2
    assert "'none' is not in the context on standard input" in done.err
    assert "at Dockerfile:2:1" in done.err
    assert builder.pybuild.root not in done.err
    done = builder.feed(archive(member("sub/x.rec", "FROM box\nCOPPY a /x\n")), "-f", "sub/x.rec", "-")
    assert "at sub/x.rec:2:1" in done.err
    assert "COPPY a /x" in done.err


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    (
        (("-f", "-", "-"), 2, "either the recipe or the context"),
        (("-f", "none", "-"), 2, "there is no none in the context on standard input"),
        (("-f", "../Dockerfile", "-"), 2, "there is no ../Dockerfile"),
        (("-f", "link", "-"), 2, "there is no link"),
        (("-",), 2, "neither a Dockerfile nor a single"),
    ),
)
def test_what_is_wrong_with_it_is_told(builder: Builder, argv: tuple[str, ...], code: int, says: str) -> None:
    tar = archive(member("file", "x"), member("link", type=tarfile.SYMTYPE, linkname="/etc/passwd"))
    done = builder.feed(tar, *argv)
    assert (done.code, says in done.err) == (code, True), done.err


def test_a_tar_that_means_harm_is_refused(builder: Builder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    hostile = {
        "dots": [member("../../../../outside/x", "harm")],
        "behind a link": [member("a", type=tarfile.SYMTYPE, linkname=str(outside)), member("a/x", "harm")],
        "a hard link out": [member("a", type=tarfile.LNKTYPE, linkname="../../../../../etc/passwd")],
        "a device": [member("a", type=tarfile.CHRTYPE, devmajor=1, devminor=5)],
    }
    for what, members in hostile.items():
        done = builder.feed(archive(member("Dockerfile", RECIPE), *members), "-")
        assert (done.code, "[context/archive]" in done.err) == (3, True), (what, done.err)
        assert os.listdir(outside) == []
        assert os.listdir(f"{builder.pybuild.root}/tmp") == []
    whole = gzip.compress(archive(member("Dockerfile", RECIPE), member("big", os.urandom(100_000))))
    done = builder.feed(whole[:-50_000], "-")
    assert (done.code, "ends too early" in done.err) == (3, True)
    # An absolute name is meant from the top of the context.
    assert builder.build("-", data=archive(member("/Dockerfile", RECIPE), member("/f", "x")))["f"] == "x"


def test_nothing_is_left_of_a_build_that_was_killed(builder: Builder) -> None:
    pybuild = builder.pybuild
    process = pybuild.start("build", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    whole = archive(member("Dockerfile", "FROM box\nRUN sleep 1000\n"), member("file", b"x" * 100_000))
    os.write(process.stdin.fileno(), whole[:50_000])
    staged = f"{pybuild.root}/tmp"
    deadline = time.monotonic() + 30
    while not any(name.startswith("context") for name in os.listdir(staged)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert os.listdir(staged) != []
    pybuild("images")
    assert os.listdir(staged) == []


# Git repositories


@pytest.fixture
def repository(git: GitServer) -> Repository:
    found = git.repository("app")
    found.commit({"Dockerfile": RECIPE, "file": "one", "web/Dockerfile": RECIPE, "web/page": "page"})
    found.git("tag", "v1")
    found.commit({"file": "two"})
    return found


def test_a_git_repository(builder: Builder, git: GitServer, repository: Repository) -> None:
    url = f"{git.url}/app.git"
    assert builder.build(url)["file"] == "two"
    assert builder.build(f"{url}#v1")["file"] == "one"
    assert builder.build(f"{url}?tag=v1")["file"] == "one"
    assert builder.build(f"{url}#main:web") == {"Dockerfile": RECIPE, "page": "page"}
    assert builder.build("-f", "web/Dockerfile", url)["web/page"] == "page"
    assert builder.build("-f", "-", f"{url}#:web", data=b"FROM box\nCOPY page /got/\n") == {"page": "page"}
    builder.pybuild.write("local.rec", "FROM box\nCOPY file /got/\n")
    assert builder.build("local.rec", url) == {"file": "two"}
    assert builder.build("local.rec", "--context", url) == {"file": "two"}


def test_its_git_directory_is_left_out_unless_it_is_asked_for(
    builder: Builder, git: GitServer, repository: Repository
) -> None:
    url = f"{git.url}/app.git"
    head = repository.git("rev-parse", "HEAD")
    assert ".git/HEAD" not in builder.build(url)
    assert builder.build(f"{url}?keep-git-dir=true")[".git/HEAD"].strip() == head
    assert builder.build(url, "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")[".git/HEAD"].strip() == head


def test_the_epoch_is_the_commit_s_time(builder: Builder, git: GitServer, repository: Repository) -> None:
    repository.commit({".dockerignore": ".git\n"})
    image = builder.pybuild("build", f"{git.url}/app.git").strip()
    assert builder.pybuild.json("inspect", image)[0]["Created"].startswith(
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(FIRST + 2 * 86400))
    )
    # So a clone that is clean gives the same image, wherever it is.
    clone = f"{builder.pybuild.cwd}/clone"
    subprocess.run(["git", "clone", "-q", str(repository.path), clone], check=True)
    assert builder.pybuild("build", clone).strip() == image


def test_verify_takes_one_too(builder: Builder, git: GitServer, repository: Repository) -> None:
    url, recipe = f"{git.url}/app.git", "FROM scratch\nCOPY . /\n"
    repository.commit({"Dockerfile": recipe})
    for done in (
        builder.pybuild.try_("verify", url),
        builder.pybuild.try_("verify", "-f", "-", url, stdin=recipe),
    ):
        assert (done.code, "the same image both times" in done.out) == (0, True), done.err


def test_the_commit_is_told(builder: Builder, git: GitServer, repository: Repository) -> None:
    done = builder.pybuild.try_("build", f"{git.url}/app.git#v1", "--progress", "plain")
    assert repository.git("rev-parse", "v1") in done.err


def test_what_cannot_be_had_is_told(builder: Builder, git: GitServer, repository: Repository) -> None:
    url = f"{git.url}/app.git"
    for text, code, says in (
        (f"{url}#none", 3, "[git/ref]"),
        (f"{url}#main:none", 3, "[git/subdir]"),
        (f"{url}#main:../..", 2, "[git/url]"),
        (f"{git.url}/none.git", 3, "[git/refused]"),
        ("http://127.0.0.1:1/x.git", 3, "[fetch/unreachable]"),
    ):
        done = builder.pybuild.try_("build", text)
        assert (done.code, says in done.err) == (code, True), done.err
    failed = builder.pybuild.try_("build", f"{url}#none", "--progress", "json")
    assert json.loads(failed.err.splitlines()[-1])["code"] == "git/ref"


def test_commands_that_fetch_nothing_say_so(builder: Builder, git: GitServer) -> None:
    done = builder.pybuild.try_("plan", f"{git.url}/app.git")
    assert (done.code, "[context/elsewhere]" in done.err) == (2, True)
    assert git.requests == []


# URLs


def test_a_tar_behind_a_url(builder: Builder, web: HttpServer) -> None:
    tar = archive(member("Dockerfile", RECIPE), member("file", "content"))
    for name, data in (("/a.tar", tar), ("/no-name-that-tells", gzip.compress(tar))):
        url = web.serve(name, data, etag='"a"')
        assert builder.build(url)["file"] == "content"
        assert builder.build(url)["file"] == "content"
    assert len(web.seen) == 4


def test_a_recipe_behind_a_url(builder: Builder, web: HttpServer) -> None:
    assert builder.build(web.serve("/Dockerfile", b"FROM box\nRUN mkdir /got; echo hi > /got/x\n")) == {
        "x": "hi\n"
    }
    done = builder.pybuild.try_("build", web.serve("/wrong", b"<html>\n"))
    assert (done.code, "at Dockerfile:1:1" in done.err) == (2, True), done.err


def test_a_url_that_is_not_there(builder: Builder, web: HttpServer) -> None:
    done = builder.pybuild.try_("build", f"{web.url.replace('://', '://u:s3cret@')}/none")
    assert (done.code, "status 404" in done.err, "s3cret" in done.err) == (3, True, False)


# A stranger's recipe


SECRET = "what nobody may have"


LINK = member("in.rec", type=tarfile.SYMTYPE, linkname="TOP/secret")
SUITE = member("test_x.py", "def test_x(): pass\n")
UP = "../" * 12


@pytest.mark.parametrize(
    ("recipe", "beside", "code"),
    (
        (f"FROM {UP}TOP/host.rec\n", [], "recipe/outside"),
        ("FROM TOP/host.rec\n", [], "recipe/outside"),
        ("FROM ./in.rec\n", [LINK], "recipe/outside"),
        (f"FROM box\nINCLUDE {UP}TOP/secret\n", [], "recipe/outside"),
        ("FROM box\nINCLUDE in.rec\n", [LINK], "recipe/outside"),
        ("FROM oci-archive://TOP/secret\n", [], "recipe/outside"),
        ("FROM docker-archive://TOP/secret\n", [], "recipe/outside"),
        ("FROM oci-layout://TOP/x\n", [], "recipe/outside"),
        ("FROM --keyring=TOP/secret mmdebstrap://bookworm\n", [], "recipe/outside"),
        (RECIPE, [member(".dockerignore", type=tarfile.SYMTYPE, linkname="TOP/secret")], "recipe/outside"),
        ("FROM box\nTEST --testinfra=test_x.py\n", [SUITE], "test/elsewhere"),
        ("FROM box\nCOPY TOP/secret /x\n", [], "copy/missing"),
        ("FROM box\nCOPY in.rec /x\n", [LINK], "copy/missing"),
    ),
)
def test_nothing_leads_out_of_a_context_that_came_from_elsewhere(
    builder: Builder, tmp_path: Path, recipe: str, beside: list[tuple[tarfile.TarInfo, bytes]], code: str
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "host.rec").write_text(f"FROM box\n# {SECRET}\n")
    top = str(tmp_path)
    links = {"linkname": f"{top}/secret"}
    real = [
        member(info.name, data, type=info.type, **(links if info.issym() else {})) for info, data in beside
    ]
    done = builder.feed(archive(member("Dockerfile", recipe.replace("TOP", top)), *real), "-")
    assert (done.code, f"[{code}]" in done.err) == (2, True), done.err
    assert SECRET not in done.err


def test_one_s_own_recipe_may_read_a_stranger_s_files_and_name_what_it_likes(builder: Builder) -> None:
    builder.pybuild.write("own.rec", "FROM ./base.rec\nCOPY file /got/\n")
    builder.pybuild.write("base.rec", "FROM box\n")
    assert builder.build("own.rec", "-", data=archive(member("file", "x"))) == {"file": "x"}
