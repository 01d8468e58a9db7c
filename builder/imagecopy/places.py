"""How places of images are spelt: as skopeo does, and as FROM does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from builder.errors import UsageError
from cache.errors import FormatError

if TYPE_CHECKING:
    from cache.oci.digest import Digest

Kind = Literal["registry", "oci-layout", "oci-archive", "docker-archive", "store"]

_KINDS: dict[str, Kind] = {
    "docker": "registry",
    "docker-image": "registry",
    "oci": "oci-layout",
    "oci-layout": "oci-layout",
    "oci-archive": "oci-archive",
    "docker-archive": "docker-archive",
    "store": "store",
}
_OTHERS = ("containers-storage", "docker-daemon", "dir", "ostree", "sif", "tarball", "atomic", "mmdebstrap")
"""Transports of skopeo and of FROM that are none here: not to be taken for names of images."""


@dataclass(frozen=True, slots=True)
class Place:
    """`location` is a path, or an image's name; `reference` is which image of a layout or an archive is
    meant: a tag, or a whole name.
    """

    kind: Kind
    location: str
    reference: str | None = None
    digest: Digest | None = None
    text: str = ""


def parse_place(text: str, *, exists: bool) -> Place:
    """Return the place that `text` means; `exists`: something is there, so that the path can be told from
    what follows it. A name without a transport is that of a registry's image. Raises UsageError, FormatError.
    """
    word, mark, rest = text.partition(":")
    kind = _KINDS.get(word.lower())
    if kind is None or not mark:
        if "://" in text or (mark and word in _OTHERS):
            raise UsageError(
                f"{text}: {word} is no kind of place that images are copied from or to",
                code="usage/place",
                hint="docker://, oci:, oci-archive:, docker-archive: and store: are known",
            )
        return Place("registry", text, text=text)
    rest = rest.removeprefix("//")
    if not rest:
        raise UsageError(f"{text}: what is meant is missing", code="usage/place")
    if kind in ("registry", "store"):
        return Place(kind, rest, text=text)
    path, reference, digest = _split(rest, exists=exists)
    return Place(kind, path, reference, digest, text)


def _split(rest: str, *, exists: bool) -> tuple[str, str | None, Digest | None]:
    """Part a path from the tag and the digest behind it. As in FROM, the shortest beginning that is there is
    the path; where nothing is, the first colon ends it, as skopeo has it.
    """
    from cache.oci.digest import Digest

    text, at, digest_text = rest.rpartition("@")
    digest: Digest | None = None
    if at:
        try:
            digest = Digest.parse(digest_text)
        except FormatError:
            text = rest
    else:
        text = rest
    ends = [position for position, char in enumerate(text) if char == ":"] + [len(text)]
    end = next((end for end in ends if end and os.path.lexists(text[:end])), None)
    if end is None:
        if exists:
            raise UsageError(f"no such file or directory: {text}", code="usage/place")
        end = next((position for position in ends if position), len(text))
    return os.path.abspath(text[:end]), text[end + 1 :] or None, digest
