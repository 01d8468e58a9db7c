"""The same builds by the kernel's overlay and by what stands in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.rootless_fixtures import scene

OTHERS = ("copy", pytest.param("fuse-overlayfs", marks=pytest.mark.peer("fuse-overlayfs")))


def overlays_in(directory: Path) -> Pybuild:
    """Return root's builds of the scene by the kernel's overlay."""
    (directory / "work").mkdir()
    scene.write(str(directory / "work"))
    return Pybuild(str(directory / "store"), str(directory / "work"))


def rows(pybuild: Pybuild, name: str) -> list[tuple[str, str]]:
    """Return what made each layer, and its DiffID."""
    return [(row["CreatedBy"], row["DiffID"]) for row in pybuild.json("layers", name, "--json")]


def same(overlays: Pybuild, other: Pybuild, text: str, driver: str) -> None:
    """Assert that both give the same layers."""
    image = overlays.build(text, "-t", "image", SOURCE_DATE_EPOCH=scene.EPOCH)
    built = other.build(text, "-t", "image", "--snapshotter", driver, SOURCE_DATE_EPOCH=scene.EPOCH)
    assert rows(other, "image") == rows(overlays, "image")
    assert built == image
