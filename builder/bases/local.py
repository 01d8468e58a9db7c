"""Bases from files of this machine: `PATH[:tag][@digest]`, and their layers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.bases.arrivals import LocalArrival, Readable
from builder.bases.transfers import Transfers
from builder.errors import BaseError
from cache.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.bases.base import BaseRequest, Surroundings


def split_location(request: BaseRequest) -> tuple[str, str | None, Digest | None]:
    """Return the path, the tag and the digest of a location.

    A path may hold colons: the shortest beginning that exists and is followed by a colon, or by nothing, is
    it. Raises BaseError if nothing is there, FormatError for a malformed digest.
    """
    text, at, digest_text = request.location.rpartition("@")
    digest = Digest.parse(digest_text) if at and digest_text.startswith("sha") else None
    if digest is None:
        text = request.location
    ends = [position for position, char in enumerate(text) if char == ":"] + [len(text)]
    for end in ends:
        path = request.path(text[:end])
        if end and os.path.lexists(path):
            return path, text[end + 1 :] or None, digest
    raise BaseError(
        f"no such file or directory: {request.path(text)}",
        code="base/not-found",
        hint="the path of a base is meant from the recipe's directory",
    )


def stamp(path: str | int) -> str:
    """What tells a file (by its path or descriptor) from another, and from what it was before a change."""
    facts = os.stat(path)
    return f"{facts.st_dev}.{facts.st_ino}.{facts.st_size}.{facts.st_mtime_ns}.{facts.st_ctime_ns}"


@dataclass(frozen=True, slots=True)
class LocalLayer:
    """A layer's blob in a file.

    `open` gives a stream of it, and its size. `digest` is None where the blob has none of its own: then the
    DiffID alone vouches for it.
    """

    open: Callable[[], tuple[Readable, int]]
    digest: Digest | None


class LocalSupply:
    """The layers of an image of this machine, for `ingest`."""

    tries = 1

    def __init__(self, around: Surroundings, name: str, layers: Sequence[LocalLayer]) -> None:
        self._store = around.store
        self._name = os.path.basename(name)
        self._layers = layers
        self._transfers = Transfers(around.emit)

    def expect(self, indices: Sequence[int]) -> None:
        """Nothing: a file of this machine need not be fetched ahead."""

    def layer(self, index: int) -> LocalArrival:
        layer = self._layers[index]
        stream, size = layer.open()
        arrival = LocalArrival(self._store, layer.digest, stream, self._transfers.poll)
        label = f"{self._name} layer {index + 1} of {len(self._layers)}"
        self._transfers.start(self._transfer(index), label, size, lambda: arrival.done)
        return arrival

    def received(self, index: int) -> None:
        self._transfers.finish(self._transfer(index))

    def close(self) -> None: ...

    def _transfer(self, index: int) -> str:
        return f"read {index} {self._name}"
