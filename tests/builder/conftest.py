"""A sandbox that all tests share, and a small root file system for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.sandbox import Sandbox
from tests.sandbox_fixtures.scene import Scene, make_root


@pytest.fixture(scope="session")
def busybox_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root file system of busybox. Tests must not change it."""
    path = tmp_path_factory.mktemp("busybox") / "root"
    make_root(str(path))
    return str(path)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """An executor."""
    with Sandbox() as executor:
        yield executor


@pytest.fixture
def scene(sandbox: Sandbox, busybox_root: str, tmp_path: Path) -> Scene:
    """Runs commands on the root of busybox."""
    return Scene(sandbox, busybox_root, str(tmp_path))
