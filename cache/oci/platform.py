"""Platforms: operating system, architecture, variant; spelled and matched as containerd does.

Source: image-spec, image-index.md (platform) and Go's GOOS and GOARCH lists.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

_OPERATING_SYSTEMS = (
    " aix android darwin dragonfly freebsd illumos ios js linux nacl netbsd openbsd plan9 solaris wasip1"
    " windows zos "
)
_ARCHITECTURES = (
    " 386 amd64 amd64p32 arm armbe arm64 arm64be loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le"
    " ppc ppc64 ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm "
)
_ALIASES = {
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "armv5tel": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v7"),
    "loongarch64": ("loong64", ""),
}
_PART = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on. `variant` is "" where there is only one, or the usual one is meant."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Return the platform that `text` names, normalised.

        `os/architecture[/variant]`, a single operating system or architecture, or `architecture/variant`;
        what is left out is the host's. Raises FormatError for anything else.
        """
        parts = text.strip().lower().split("/")
        if not 1 <= len(parts) <= 3 or not all(_PART.fullmatch(part) for part in parts):
            raise FormatError(
                f"not a platform: {text[:100]!r}", hint="write os/architecture, such as linux/amd64"
            )
        first = "darwin" if parts[0] == "macos" else parts[0]
        if len(parts) == 1 and f" {first} " in _OPERATING_SYSTEMS:
            host = cls.host()
            return cls(first, host.architecture, host.variant)
        if f" {first} " not in _OPERATING_SYSTEMS and len(parts) < 3:
            architecture, variant = _normalise(first, parts[1] if len(parts) == 2 else "")
            if f" {architecture} " in _ARCHITECTURES:
                return cls(cls.host().os, architecture, variant)
        if len(parts) == 1 or f" {first} " not in _OPERATING_SYSTEMS:
            raise FormatError(
                f"unknown platform: {text[:100]!r}", hint="write os/architecture, such as linux/amd64"
            )
        return cls(first, *_normalise(parts[1], parts[2] if len(parts) == 3 else ""))

    @classmethod
    def host(cls) -> Platform:
        """The platform of this machine."""
        names = os.uname()
        return cls(names.sysname.lower(), *_normalise(names.machine.lower(), ""))

    def normalised(self) -> Platform:
        """The same in the usual spelling: `aarch64` and `arm64/v8` are `arm64`, `arm` is `arm/v7`."""
        name = self.os.lower()
        architecture, variant = _normalise(self.architecture.lower(), self.variant.lower())
        return Platform(
            "darwin" if name == "macos" else name, architecture, variant, self.os_version, self.os_features
        )

    def rank(self, offered: Platform) -> int | None:
        """How well an image for `offered` suits this platform: 0 is best, None is not at all.

        As containerd's `Only`: an older variant of the same family runs too, and so does 386 on amd64,
        and arm on arm64.
        """
        offer = offered.normalised()
        wanted = self.normalised()
        if offer.os != wanted.os:
            return None
        runs = _runs(wanted.architecture, wanted.variant)
        name = (offer.architecture, offer.variant)
        return runs.index(name) if name in runs else None

    def matches(self, offered: Platform) -> bool:
        """Whether an image for `offered` runs on this platform."""
        return self.rank(offered) is not None

    def best(self, offered: Iterable[Platform]) -> Platform | None:
        """Of `offered`, the one that suits best (the first, of equals), or None."""
        ranked = [
            (rank, number, item)
            for number, item in enumerate(offered)
            if (rank := self.rank(item)) is not None
        ]
        return min(ranked)[2] if ranked else None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def _normalise(architecture: str, variant: str) -> tuple[str, str]:
    if architecture in _ALIASES:
        architecture, implied = _ALIASES[architecture]
        variant = variant or implied
    if variant[:1].isdigit() and architecture in ("arm", "arm64", "amd64"):
        variant = "v" + variant
    if (architecture, variant) in (("amd64", "v1"), ("arm64", "v8"), ("arm64", "v8.0")):
        variant = ""
    elif (architecture, variant) == ("arm", ""):
        variant = "v7"
    return architecture, variant


def _runs(architecture: str, variant: str) -> list[tuple[str, str]]:
    """What `architecture/variant` can run, best first."""
    level = int(variant[1:]) if re.fullmatch(r"v\d{1,2}", variant) else 0
    if architecture == "amd64":
        lower = [("amd64", f"v{number}" if number > 1 else "") for number in range(level - 1, 0, -1)]
        return [("amd64", variant), *lower, ("386", "")]
    if architecture == "arm":
        return [("arm", variant), *(("arm", f"v{number}") for number in range(level - 1, 4, -1))]
    if architecture == "arm64":
        lower = [("arm64", "")] if variant else []
        return [("arm64", variant), *lower, *(("arm", f"v{number}") for number in range(8, 4, -1))]
    return [(architecture, variant)]
