"""Platforms, as containerd's platforms package has them."""

from __future__ import annotations

import os

import pytest

from cache.errors import FormatError
from cache.oci.platform import Platform


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("LINUX/AMD64", Platform("linux", "amd64")),
        ("linux/x86_64", Platform("linux", "amd64")),
        ("linux/x86-64", Platform("linux", "amd64")),
        ("linux/amd64/v1", Platform("linux", "amd64")),
        ("linux/amd64/v3", Platform("linux", "amd64", "v3")),
        ("linux/aarch64", Platform("linux", "arm64")),
        ("linux/arm64/v8", Platform("linux", "arm64")),
        ("linux/arm64/8", Platform("linux", "arm64")),
        ("linux/arm64/v9", Platform("linux", "arm64", "v9")),
        ("linux/arm", Platform("linux", "arm", "v7")),
        ("linux/arm/6", Platform("linux", "arm", "v6")),
        ("linux/armhf", Platform("linux", "arm", "v7")),
        ("linux/armel", Platform("linux", "arm", "v6")),
        ("linux/i386", Platform("linux", "386")),
        ("macos/arm64", Platform("darwin", "arm64")),
        ("linux/riscv64", Platform("linux", "riscv64")),
        ("linux/loongarch64", Platform("linux", "loong64")),
    ],
)
def test_a_platform_is_normalised(text: str, platform: Platform) -> None:
    assert Platform.parse(text) == platform
    assert platform.normalised() == platform
    assert Platform.parse(str(platform)) == platform


def test_what_is_left_out_is_the_hosts() -> None:
    host = Platform.host()
    assert host.os == "linux"
    assert Platform.parse(f"linux/{os.uname().machine}") == host
    assert Platform.parse("linux") == host
    assert Platform.parse("windows") == Platform("windows", host.architecture, host.variant)
    assert Platform.parse("arm64") == Platform("linux", "arm64")
    assert Platform.parse("arm/v6") == Platform("linux", "arm", "v6")


@pytest.mark.parametrize(
    "text", ["", "/", "linux/", "linux/amd64/v1/x", "nonsense", "minix/amd64", "li nux/amd64", "a/b/c"]
)
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="platform"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "offered", "best"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/386", "linux/amd64/v1"], "linux/amd64"),
        ("linux/amd64", ["linux/386"], "linux/386"),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64"], "linux/arm/v6"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], "linux/arm64"),
        ("linux/arm64/v9", ["linux/arm64"], "linux/arm64"),
        ("linux/arm64", ["linux/arm/v7", "linux/amd64"], "linux/arm/v7"),
        ("linux/amd64", ["windows/amd64"], None),
        ("linux/s390x", ["linux/s390x"], "linux/s390x"),
        ("linux/amd64", [], None),
    ],
)
def test_the_best_of_what_is_offered_is_taken(wanted: str, offered: list[str], best: str | None) -> None:
    platforms = [Platform.parse(text) for text in offered]
    found = Platform.parse(wanted).best(platforms)
    assert (found and str(found)) == best
    assert any(Platform.parse(wanted).matches(platform) for platform in platforms) == (best is not None)


def test_an_offer_is_compared_however_it_is_spelled() -> None:
    assert Platform("linux", "amd64").matches(Platform("Linux", "x86_64", os_version="1", os_features=("x",)))
