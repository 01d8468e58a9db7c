"""What `--annotation` says: `[TYPE[PLATFORM],…:]KEY=VALUE`, in the words of Docker's buildx.

Source: buildx, util/buildflags/export.go (the form), and image-spec, annotations.md. An image for one
platform has a manifest and no index of its own: `index` is the one of the layout that it is written to. For
several it is the image's own, and `index-descriptor` is what the layout's says of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import UsageError
from cache.errors import FormatError
from cache.oci.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cache.oci.document import Pairs

TYPES = ("manifest", "manifest-descriptor", "index", "index-descriptor")

_TYPE = r"[a-z-]+(?:\[[A-Za-z0-9_/-]+\])?"
_KEY = re.compile(rf"(?:(?P<types>{_TYPE}(?:,{_TYPE})*):)?(?P<key>\S+)")


@dataclass(frozen=True, slots=True)
class Annotations:
    """Annotations of an image's manifest, of its entry in an index, of that index, and of the entry of an
    index in that of a layout.
    """

    manifest: Pairs = ()
    descriptor: Pairs = ()
    index: Pairs = ()
    index_descriptor: Pairs = ()

    def __bool__(self) -> bool:
        return bool(self.manifest or self.descriptor or self.index or self.index_descriptor)


NOTHING = Annotations()


def parse_annotations(texts: Sequence[str], platform: Platform, *, several: bool = False) -> Annotations:
    """Return what the `--annotation` options ask of an image for `platform`, one of `several`. Raises
    UsageError.
    """
    found: dict[str, dict[str, str]] = {name: {} for name in TYPES}
    for text in texts:
        name, mark, value = text.partition("=")
        match = _KEY.fullmatch(name)
        if not mark or match is None:
            raise _error(text, "write [TYPE:]KEY=VALUE", f"TYPE is {', '.join(TYPES)}")
        for kind in (match["types"] or "manifest").split(","):
            if _is_for(text, kind, platform, several=several):
                found[kind.partition("[")[0]][match["key"]] = value
    return Annotations(*(tuple(sorted(found[kind].items())) for kind in TYPES))


def _is_for(text: str, kind: str, platform: Platform, *, several: bool) -> bool:
    """Whether the type, checked, names no platform, or one that `platform` is."""
    name, mark, rest = kind.partition("[")
    if name not in TYPES:
        from grammar.suggest import did_you_mean

        raise _error(
            text, f"unknown type {name!r}", did_you_mean(name, TYPES) or f"known: {', '.join(TYPES)}"
        )
    if name == "index-descriptor" and not several:
        # As BuildKit: an annotation is written where it was asked for, or not at all.
        raise _error(text, "an image for one platform has no index that anything points to", None)
    if not mark:
        return True
    if name in ("index", "index-descriptor"):
        raise _error(text, "an index is of no platform", "write index:KEY=VALUE")
    try:
        return Platform.parse(rest.removesuffix("]")).matches(platform)
    except FormatError as error:
        raise _error(text, error.message, error.hint) from None


def _error(text: str, problem: str, hint: str | None) -> UsageError:
    return UsageError(f"--annotation {text[:200]!r}: {problem}", code="usage/annotation", hint=hint)
