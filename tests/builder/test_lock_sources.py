"""What else a lock file holds: files and repositories that ADD takes, bases by mmdebstrap."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

from tests.command_fixtures.pybuild import Pybuild
from tests.registry_fixtures.debian import SUITE, DebianRepository
from tests.remote_fixtures.git_server import GitServer
from tests.remote_fixtures.http_server import HttpServer

DATE = 1_600_000_000
EPOCH = "1700000000"
HELLO = {"hello": {"usr/bin/hello": b"hi\n"}}


def read_lock(pybuild: Pybuild) -> dict[str, list[dict[str, Any]]]:
    with open(f"{pybuild.cwd}/app.rec.lock", "rb") as file:
        return tomli.load(file)


def test_a_file_is_locked_by_its_checksum_and_another_one_is_an_error(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    with HttpServer() as server:
        url = server.serve("/file", b"one")
        pybuild.write("app.rec", f"FROM scratch\nADD {url} /file\n")
        done = pybuild.try_("build", "app.rec", "--locked")
        assert (done.code, f"{url} is not in" in done.err or "no app.rec.lock" in done.err) == (2, True)
        pybuild("lock", "app.rec")
        (pin,) = read_lock(pybuild)["file"]
        assert pin["url"] == url
        first = pybuild("build", "app.rec", "--locked").strip()
        server.serve("/file", b"two")
        assert pybuild("build", "app.rec", "--locked").strip() == first
        done = pybuild.try_("lock", "app.rec", "--check")
        assert (done.code, f"moved: {url}: {pin['checksum']} -> sha256:" in done.out) == (1, True)
        other = pybuild.try_("build", "app.rec", "--locked", "--root", f"{tmp_path}/fresh")
        assert other.code in (2, 3)
        assert str(pin["checksum"]) in other.err
    assert pybuild("build", "app.rec", "--locked").strip() == first
    pybuild.write("app.rec", f"FROM scratch\nADD {url} /elsewhere\n")
    pybuild("build", "app.rec", "--locked")


def test_a_repository_is_locked_by_its_commit(pybuild: Pybuild, tmp_path: Path) -> None:
    with GitServer(tmp_path / "served") as server:
        repository = server.repository("project.git")
        first = repository.commit({"file": "one"})
        url = f"{server.url}/project.git"
        pybuild.write("app.rec", f"FROM scratch\nADD {url} /src\n")
        pybuild("lock", "app.rec")
        assert read_lock(pybuild)["git"][0]["commit"] == first
        built = pybuild("build", "app.rec", "--locked", SOURCE_DATE_EPOCH=EPOCH).strip()
        second = repository.commit({"file": "two"})
        fresh = ("--root", f"{tmp_path}/fresh")
        assert pybuild("build", "app.rec", SOURCE_DATE_EPOCH=EPOCH).strip() == built
        assert pybuild("build", "app.rec", *fresh, SOURCE_DATE_EPOCH=EPOCH).strip() == built
        done = pybuild.try_("lock", "app.rec", "--check")
        assert (done.code, f"{first} -> {second}" in done.out) == (1, True)
        pybuild("lock", "app.rec", "--update")
        assert pybuild("build", "app.rec", "--locked").strip() != built
    pybuild.write("app.rec", f"FROM scratch\nADD {url} /source\n")
    pybuild("build", "app.rec", "--locked")


def test_what_the_recipe_fixes_itself_needs_no_pin(pybuild: Pybuild, tmp_path: Path) -> None:
    with HttpServer() as server, GitServer(tmp_path / "served") as git:
        url = server.serve("/file", b"one")
        checksum = "sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
        commit = git.repository("p.git").commit({"file": "one"})
        lines = f"ADD --checksum={checksum} {url} /file\nADD {git.url}/p.git#{commit} /src\n"
        pybuild.write("app.rec", f"FROM scratch\n{lines}")
        pybuild("build", "app.rec", "--locked")


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[DebianRepository]:
    with DebianRepository(os.path.join(tmp_path, "repository")) as running:
        running.publish(HELLO, DATE)
        yield running


@pytest.mark.peer("mmdebstrap", "gpgv", "gpg", "dpkg-deb")
def test_a_base_by_mmdebstrap_is_locked_by_its_release_files(
    pybuild: Pybuild, repository: DebianRepository, tmp_path: Path
) -> None:
    flags = f"--variant=extract --include=hello --mirror={repository.mirror} --keyring={repository.keyring}"
    pybuild.write("app.rec", f"FROM {flags} mmdebstrap://{SUITE}\nLABEL a=b\n")
    pybuild("lock", "app.rec")
    (pin,) = read_lock(pybuild)["base"]
    assert str(pin["name"]).startswith(f"mmdebstrap://{SUITE}?variant=extract&include=hello&mirror=")
    assert pin["platform"] == "linux/amd64"
    (release,) = pin["releases"]
    assert str(release).endswith(f" {repository.mirror} {SUITE}")
    first = pybuild("build", "app.rec", "--locked").strip()
    assert pybuild("build", "app.rec", "--locked", "--root", f"{tmp_path}/same").strip() == first
    repository.publish({"hello": {"usr/bin/hello": b"another\n"}}, DATE + 1)
    assert pybuild("build", "app.rec", "--locked").strip() == first
    done = pybuild.try_("lock", "app.rec", "--check")
    assert (done.code, f"moved: {pin['name']}: {release} -> sha256:" in done.out) == (1, True)
    done = pybuild.try_("build", "app.rec", "--locked", "--root", f"{tmp_path}/other")
    assert (done.code, "[lock/moved]" in done.err, str(release) in done.err) == (2, True, True)
    done = pybuild.try_("build", "app.rec", "--root", f"{tmp_path}/other")
    assert (done.code, "has moved: it is locked as" in done.err) == (0, True)
    assert "~ mmdebstrap" in pybuild("lock", "app.rec", "--update")
    assert pybuild("build", "app.rec", "--locked").strip() != first
