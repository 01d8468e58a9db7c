"""save and load: what goes out comes in as the same image, here and in podman."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.exporter_fixtures.podman import Podman


@pytest.fixture
def other(pybuild: Pybuild) -> Pybuild:
    """pybuild on an empty store."""
    return Pybuild(pybuild.root + "-other", pybuild.cwd)


def build_two(pybuild: Pybuild) -> tuple[str, str]:
    one = pybuild.build(
        'FROM box\nRUN echo one > /one\nCMD ["cat", "/one"]\n', "-t", "one:1", "-t", "r.example/uno"
    )
    two = pybuild.build("FROM box\nRUN echo two > /two\nRUN true\n", "-t", "two")
    return one, two


@pytest.mark.parametrize(
    "options", [[], ["--format", "oci"], ["--format=oci-archive", "--compression", "zstd"]]
)
def test_a_round_trip_keeps_ids_and_names(pybuild: Pybuild, other: Pybuild, options: list[str]) -> None:
    one, two = build_two(pybuild)
    pybuild("save", *options, "-o", "all.tar", "one:1", "two", one)
    assert other("load", "-i", "all.tar").splitlines() == [
        "Loaded image: one:1",
        "Loaded image: r.example/uno:latest",
        "Loaded image: two:latest",
    ]
    assert other("images", "-q", "--no-trunc", "one:1").strip() == one
    assert other("images", "-q", "--no-trunc", "two").strip() == two
    assert other("run", "--rm", "one:1") == "one\n"
    for name in ("one:1", "two"):
        assert other.json("inspect", name)[0]["RootFS"] == pybuild.json("inspect", name)[0]["RootFS"]
        assert other.json("history", name, "--json") == pybuild.json("history", name, "--json")
    other("save", *options, "-o", "again.tar", "one:1", "two", one)
    with open(f"{pybuild.cwd}/all.tar", "rb") as first, open(f"{pybuild.cwd}/again.tar", "rb") as second:
        assert first.read() == second.read()


def test_what_images_share_is_in_an_archive_once(pybuild: Pybuild) -> None:
    build_two(pybuild)
    for kind, layer in (("docker", "/layer.tar"), ("oci", "blobs/sha256/")):
        pybuild("save", "--format", kind, "-o", "all.tar", "one:1", "two", "box")
        with tarfile.open(f"{pybuild.cwd}/all.tar") as archive:
            names = archive.getnames()
        assert len(names) == len(set(names))
        layers = [name for name in names if layer in name]
        assert len(layers) == (7 if kind == "docker" else 7 + 3 + 3)  # with manifests and configs


def test_an_image_goes_by_the_names_given_or_by_its_id_with_all(pybuild: Pybuild, other: Pybuild) -> None:
    build_two(pybuild)
    pybuild("save", "-o", "one.tar", "one:1")
    assert other("load", "one.tar") == "Loaded image: one:1\n"
    pybuild("rmi", "one:1", "r.example/uno")
    unnamed = pybuild.build("FROM box\nRUN echo x > /x\n")
    pybuild("save", "-o", "x.tar", unnamed)
    assert other("load", "x.tar") == f"Loaded image ID: {unnamed}\n"
    assert other("load", "-q", "x.tar") == f"{unnamed}\n"


def test_standard_streams(pybuild: Pybuild, other: Pybuild) -> None:
    one, _ = build_two(pybuild)
    with pybuild.start("save", "one:1") as save:
        loaded = other("load", "-q", stdin=save.stdout)
    assert (save.returncode, loaded) == (0, f"{one}\n")
    pybuild("save", "-o", "one.tar", "one:1")
    subprocess.run(["gzip", "one.tar"], cwd=pybuild.cwd, check=True)
    with open(f"{pybuild.cwd}/one.tar.gz", "rb") as file:
        assert other("load", stdin=file) == "Loaded image: one:1\n"


def test_what_is_wrong_is_told(pybuild: Pybuild, other: Pybuild) -> None:
    pybuild.write("text", "no archive")
    for argv, code in ((["load", "text"], 3), (["load", "none.tar"], 3), (["load", "-i", "a", "b"], 2)):
        done = other.try_(*argv)
        assert (done.code, done.out) == (code, ""), done.err
        assert done.err.startswith("error: ")
    for argv in (["save", "box", "-o", "/no/such/dir/x"], ["save", "box", "--compression", "gzip"], ["save"]):
        done = pybuild.try_(*argv)
        assert (done.code, done.out) == (2, ""), done.err
    pybuild("save", "-o", "box.tar", "box")
    with open(f"{pybuild.cwd}/box.tar", "r+b") as file:
        file.truncate(os.path.getsize(file.name) // 2)
    assert other.try_("load", "box.tar").code == 3
    assert other("images", "-aq") == ""


def test_a_reader_that_goes_away(pybuild: Pybuild) -> None:
    with pybuild.start("save", "box") as save:
        assert save.stdout is not None
        os.read(save.stdout.fileno(), 10)
        save.stdout.close()
        assert save.stderr is not None
        error = save.stderr.read()
        assert save.wait(20) in (4, 141)
    assert "Traceback" not in error


@pytest.mark.peer("podman")
def test_podman_loads_and_runs_what_save_wrote(pybuild: Pybuild, tmp_path: Path) -> None:
    one, two = build_two(pybuild)
    podman = Podman(str(tmp_path / "podman"))
    archive = f"{pybuild.cwd}/all.tar"
    try:
        # Of several images in an OCI archive podman 4.3 takes none.
        for kind, groups in (("docker", [["one:1", "two"]]), ("oci", [["one:1"], ["two"]])):
            for names in groups:
                pybuild("save", "--format", kind, "-o", archive, *names)
                assert f"docker.io/library/{names[0]}" in podman("load", "-q", "-i", archive)
            assert set(podman("images", "--no-trunc", "--format", "{{.ID}}").split()) == {one, two}
            assert podman.run("docker.io/library/one:1") == "one\n"
            podman("save", "-q", "-o", f"{pybuild.cwd}/{kind}.tar", "docker.io/library/two")
            podman("rmi", "--all")
    finally:
        podman.close()
    for kind in ("docker", "oci"):
        other = Pybuild(f"{pybuild.root}-{kind}", pybuild.cwd)
        assert other("load", f"{kind}.tar") == "Loaded image: two:latest\n"
        assert other.json("inspect", "two")[0]["RootFS"] == pybuild.json("inspect", "two")[0]["RootFS"]
