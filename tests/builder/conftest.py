"""A sandbox that all tests share, and a small root file system for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.sandbox import Sandbox
from tests.build_fixtures.foreign import fetch_busybox
from tests.build_fixtures.project import Project
from tests.command_fixtures.pybuild import BOX, Pybuild, write_box
from tests.sandbox_fixtures.scene import Scene, make_root


@pytest.fixture(scope="session")
def busybox_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root file system of busybox. Tests must not change it."""
    path = tmp_path_factory.mktemp("busybox") / "root"
    make_root(str(path))
    return str(path)


@pytest.fixture(scope="session")
def busybox_arm64(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Debian's busybox for arm64."""
    with open(fetch_busybox(str(tmp_path_factory.mktemp("arm64"))), "rb") as file:
        return file.read()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """An executor."""
    with Sandbox() as executor:
        yield executor


@pytest.fixture
def scene(sandbox: Sandbox, busybox_root: str, tmp_path: Path) -> Scene:
    """Runs commands on the root of busybox."""
    return Scene(sandbox, busybox_root, str(tmp_path))


@pytest.fixture(scope="session")
def box_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with the image `box`, and the context that it was built on beside it. Tests take copies."""
    directory = tmp_path_factory.mktemp("box")
    (directory / "context").mkdir()
    write_box(str(directory / "context"))
    pybuild = Pybuild(str(directory / "store"), str(directory / "context"))
    pybuild.build(BOX, "-t", "box", SOURCE_DATE_EPOCH="1700000000")
    return str(directory)


@pytest.fixture
def pybuild(box_store: str, tmp_path: Path) -> Iterator[Pybuild]:
    """pybuild on a store that has the image `box`, in a directory of its own. Containers end with the
    test.
    """
    subprocess.run(["cp", "-a", f"{box_store}/store", str(tmp_path / "store")], check=True)
    (tmp_path / "context").mkdir()
    made = Pybuild(str(tmp_path / "store"), str(tmp_path / "context"))
    yield made
    left = tmp_path / "store/containers"
    if left.is_dir() and os.listdir(left):
        made("rm", "-f", *os.listdir(left))


@pytest.fixture
def project(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A context, a base of busybox and a store, in which real builds run."""
    for name in ("SOURCE_DATE_EPOCH", "PYBUILD_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return Project(str(tmp_path), sandbox)
