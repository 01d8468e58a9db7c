"""FROM [--variant=V] [--include=P] [--mirror=M] [--keyring=K] mmdebstrap://SUITE: Debian from packages alone.

The suite's signed Release files are the base's identity: they name the index of every package by its digest.
Debian's own mmdebstrap does the work, in the sandbox; what it leaves that differs from run to run is cleaned
away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.bases.base import BaseImage, BaseRequest, Surroundings
from builder.bases.debian import KEYRING, architecture, check_suite
from builder.bases.images import find, keep, recall, remember
from builder.errors import BaseError

if TYPE_CHECKING:
    from builder.bases.keyring import Keyring
    from builder.bases.release import Release

_FORMAT = 1
"""Of what is made of the same packages. Counts up when that changes."""

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
_MOVES = 3
"""How often a mirror may be updated while it is read, before that is an error."""


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


class MmdebstrapTransport:
    """Bases made by mmdebstrap.

    Once made, one stands in the store until `pull` asks for the suite's state again.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def resolve(self, request: BaseRequest) -> BaseImage:
        """Return the base. Raises BaseError, HostError, StoreError."""
        wish = read_wish(request)
        if not request.pull:
            known = find(self._around.store, wish.name, request.platform)
            if known is not None:
                return known
        with self._around.store.lock(f"base-{request.platform}-{wish.name}"):
            if not request.pull:  # another build may have made it while we waited
                known = find(self._around.store, wish.name, request.platform)
                if known is not None:
                    return known
            return self._make(wish, request)

    def close(self) -> None: ...

    def _make(self, wish: Wish, request: BaseRequest) -> BaseImage:
        from builder.bases.bootstrap import Bootstrap

        around, store = self._around, self._around.store
        bootstrap = Bootstrap(around, wish, request.platform)
        for _ in range(_MOVES):
            releases = bootstrap.releases()
            receipt = f"mmdebstrap {base_key(wish, releases, bootstrap.keyring, bootstrap.version)}"
            made = recall(store, receipt, wish.name)
            if made is not None:
                data, config = store.images.get(made.image_id), made.config
            else:
                result = bootstrap.run(releases, find(store, wish.name, request.platform))
                if result is None:
                    continue
                data, config = result
            base = keep(around, data, config, names=[wish.name], platform=request.platform, digest=None)
            remember(store, receipt, base)
            return base
        raise BaseError(f"the mirror of {wish.suite} keeps changing while it is read", code="base/mirror")


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


def base_key(wish: Wish, releases: Sequence[Release], keyring: Keyring, version: str) -> str:
    """The BLAKE3 of all that the result depends on: the packages by their signed indexes, and what is done to
    them.
    """
    import json

    from blake3 import blake3

    sources = [[release.source.line(), release.digest] for release in releases]
    keys = "" if keyring.is_default else f"{keyring.file_name} {keyring.digest}"  # a copy is in the image
    parts = [
        _FORMAT,
        sources,
        wish.suite,
        wish.architecture,
        wish.variant,
        list(wish.include),
        keys,
        version,
    ]
    return blake3(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()
