"""What FROM mmdebstrap:// asks for. Every build on such a base reads it, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import BaseError

if TYPE_CHECKING:
    from builder.bases.base import BaseRequest
    from cache.oci.platform import Platform

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_SUITE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.+-")
_VARIANTS = (
    "extract",
    "custom",
    "essential",
    "apt",
    "required",
    "minbase",
    "buildd",
    "important",
    "debootstrap",
    "-",
    "standard",
)
_ARCHITECTURES = {
    "386": "i386",
    "amd64": "amd64",
    "arm/v5": "armel",
    "arm/v6": "armel",
    "arm/v7": "armhf",
    "arm64": "arm64",
    "loong64": "loong64",
    "mips64le": "mips64el",
    "mipsle": "mipsel",
    "ppc64le": "ppc64el",
    "riscv64": "riscv64",
    "s390x": "s390x",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What FROM asks for, checked. `keyring` is an absolute path."""

    suite: str
    architecture: str
    variant: str = "minbase"
    include: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    keyring: str = KEYRING

    @property
    def name(self) -> str:
        """The name under which the result stands in the store: what was asked for, in one spelling."""
        parts = [f"variant={self.variant}"] if self.variant != "minbase" else []
        parts += [f"include={','.join(self.include)}"] if self.include else []
        parts += [f"mirror={mirror}" for mirror in self.mirrors]
        parts += [f"keyring={self.keyring}"] if self.keyring != KEYRING else []
        return f"mmdebstrap://{self.suite}" + (f"?{'&'.join(parts)}" if parts else "")


def read_wish(request: BaseRequest) -> Wish:
    """Return what a request asks for. Raises BaseError for what mmdebstrap would not understand."""
    check_suite(request.location)
    values: dict[str, list[str]] = {}
    for name, value in request.options:
        values.setdefault(name, []).append(value)
    unknown = values.keys() - {"variant", "include", "mirror", "keyring"}
    if unknown:
        raise BaseError(f"--{min(unknown)} means nothing to mmdebstrap://", code="base/option")
    variant = values.get("variant", ["minbase"])[-1]
    if variant not in _VARIANTS:
        hint = f"mmdebstrap knows {', '.join(_VARIANTS)}"
        raise BaseError(f"unknown variant: {variant[:100]!r}", code="base/option", hint=hint)
    include = _packages(values.get("include", []))
    keyring = request.path(values["keyring"][-1]) if "keyring" in values else KEYRING
    mirrors = tuple(text.strip() for text in values.get("mirror", []))
    return Wish(request.location, architecture(request.platform), variant, include, mirrors, keyring)


def _packages(texts: Sequence[str]) -> tuple[str, ...]:
    """The packages of all --include flags, each once, sorted: their order means nothing to apt."""
    words = {word for text in texts for word in text.replace(",", " ").split()}
    for word in sorted(words):
        if word.startswith("-") or not word.isascii() or not word.isprintable():
            raise BaseError(f"{word[:100]!r} is not the name of a package", code="base/option")
    return tuple(sorted(words))


def architecture(platform: Platform) -> str:
    """Debian's name of the platform's architecture. Raises BaseError if there is none."""
    wanted = platform.normalised()
    name = "/".join(part for part in (wanted.architecture, wanted.variant) if part)
    found = _ARCHITECTURES.get(name) or _ARCHITECTURES.get(wanted.architecture)
    if wanted.os != "linux" or found is None:
        raise BaseError(f"Debian is not made for {platform}", code="base/platform")
    return found


def check_suite(suite: str) -> None:
    """Raise BaseError if `suite` cannot be the name of one."""
    if not suite[:1].isalnum() or not _SUITE.issuperset(suite):
        raise BaseError(
            f"{suite[:100]!r} is not the name of a suite",
            code="base/suite",
            hint="write a code name, such as FROM mmdebstrap://bookworm",
        )
