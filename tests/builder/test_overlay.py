"""Overlay mounts that are attached nowhere. Needs root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.errors import HostError
from builder.overlay import Overlay, detached


def listing(fd: int, path: str = ".") -> list[str]:
    return sorted(os.listdir(f"/proc/self/fd/{fd}/{path}"))


@pytest.fixture
def layers(tmp_path: Path) -> tuple[str, ...]:
    """Three layers, top first: `top` deletes `middle`'s file and hides its directory."""
    for name in ("top", "middle", "bottom"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    (tmp_path / "middle" / "gone").write_text("")
    (tmp_path / "bottom" / "dir").mkdir()
    (tmp_path / "bottom" / "dir" / "hidden").write_text("")
    (tmp_path / "top" / "dir").mkdir()
    os.setxattr(tmp_path / "top" / "dir", "trusted.overlay.opaque", b"y")
    os.mknod(tmp_path / "top" / "gone", 0o20000, 0)
    return tuple(str(tmp_path / name) for name in ("top", "middle", "bottom"))


def test_lowers_are_united_top_first_and_nothing_is_mounted_on_the_host(layers: tuple[str, ...]) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    fd = detached(Overlay(layers))
    try:
        assert listing(fd) == ["bottom", "dir", "middle", "top"]
        assert listing(fd, "dir") == []
        assert Path("/proc/self/mountinfo").read_text() == before
        with pytest.raises(OSError, match="Read-only"):
            Path(f"/proc/self/fd/{fd}/new").write_text("")
    finally:
        os.close(fd)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_single_lower_is_a_read_only_mount_that_honours_its_whiteouts(layers: tuple[str, ...]) -> None:
    fd = detached(Overlay(layers[:1]))
    try:
        assert listing(fd) == ["dir", "top"]
    finally:
        os.close(fd)


def test_writes_land_in_upper_and_leave_the_lowers_alone(layers: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "work").mkdir()
    fd = detached(Overlay(layers, str(tmp_path / "upper"), str(tmp_path / "work")))
    try:
        root = Path(f"/proc/self/fd/{fd}")
        (root / "bottom").write_text("changed")
        (root / "middle").unlink()
    finally:
        os.close(fd)
    assert "trusted.overlay.uuid" not in os.listxattr(tmp_path / "upper")
    assert (tmp_path / "upper" / "bottom").read_text() == "changed"
    assert (tmp_path / "bottom" / "bottom").read_text() == "bottom"
    status = os.stat(tmp_path / "upper" / "middle")
    assert (status.st_mode & 0o170000, status.st_rdev) == (0o20000, 0)


def test_paths_longer_than_fsconfig_takes(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(4):
        deep /= "d" * 100
    for name in ("a", "b", "upper", "work"):
        (deep / name).mkdir(parents=True)
    (deep / "a" / "file").write_text("")
    fd = detached(Overlay((str(deep / "a"), str(deep / "b")), str(deep / "upper"), str(deep / "work")))
    try:
        assert listing(fd) == ["file"]
    finally:
        os.close(fd)


@pytest.mark.parametrize("count", [500, 501, 620])
def test_more_lowers_than_the_kernel_stacks(tmp_path: Path, count: int) -> None:
    lower = []
    for number in range(count):
        layer = tmp_path / str(number)
        layer.mkdir()
        (layer / "who").write_text(str(number))
        (layer / f"file{number}").write_text("")
        lower.append(str(layer))
    os.mknod(
        tmp_path / "3" / f"file{count - 1}", 0o20000, 0
    )  # a whiteout high up, of a file in the lowest layer
    fd = detached(Overlay(tuple(lower)))
    try:
        assert Path(f"/proc/self/fd/{fd}/who").read_text() == "0"
        assert len(listing(fd)) == count
        assert f"file{count - 1}" not in listing(fd)
    finally:
        os.close(fd)


def test_too_many_lowers_are_an_error_that_says_so() -> None:
    with pytest.raises(HostError, match="1000 layers"):
        detached(Overlay(("/nowhere",) * 1000))


def test_an_upper_that_cannot_be_one_is_an_error_with_a_reason(layers: tuple[str, ...]) -> None:
    with pytest.raises(HostError) as caught:
        detached(Overlay(layers, "/proc/1", "/proc/1"))
    assert caught.value.code == "host/overlay"
    assert caught.value.hint


def test_a_lower_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="nowhere"):
        detached(Overlay((str(tmp_path / "nowhere"), str(tmp_path))))


def test_description_names_every_directory(layers: tuple[str, ...]) -> None:
    words = Overlay(layers, "/u", "/w").describe()
    assert all(f"lowerdir+={path}" in words for path in layers)
    assert "upperdir=/u" in words
    assert "workdir=/w" in words
