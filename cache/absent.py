"""Layers that are known and not here, with the places that they can be had from.

A base of a registry is known by its manifest and config alone, and a step that a shared cache tells of by its
record: their layers are fetched when somebody reads them, and many never are. What is noted here is a hint,
kept among the receipts: whoever fetches a layer verifies it against its DiffID, so that a wrong note costs a
fetch and nothing more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from cache.errors import FormatError
from cache.oci.digest import ChainID, DiffID, Digest
from cache.oci.spec import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cache.memo import Receipts

OriginKind = Literal["registry", "cache"]

_KIND = "absent"
_MOST_ORIGINS = 4


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a layer can be had: `place` is a repository of a registry (`host/path`), or a shared cache as
    `--cache-from` names it; `blob` is what it is there."""

    kind: OriginKind
    place: str
    blob: Descriptor


@dataclass(frozen=True, slots=True)
class AbsentLayer:
    """A layer on `parent` (None: the lowest). `size` is that of its tar in bytes, or if nobody has said, of
    its blob."""

    parent: ChainID | None
    diff_id: DiffID
    size: int
    origins: tuple[Origin, ...]

    @property
    def chain_id(self) -> ChainID:
        """The ChainID of the layer with what is below it."""
        return ChainID.extend(self.parent, self.diff_id)


class AbsentLayers:
    """What the receipts say of layers that can be had. A layer may have come in since."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._doubted: set[ChainID] = set()

    def get(self, chain_id: ChainID) -> AbsentLayer | None:
        """Return what is known of the topmost layer of a chain, None if nobody knows where it is, or it could
        not be had when it was tried."""
        if chain_id in self._doubted:
            return None
        return self._read(chain_id)

    def parents(self) -> dict[ChainID, ChainID | None]:
        """Return what each chain stands on whose topmost layer is known; for a look at the store, which holds
        nothing."""
        found = (_try(value) for value in self._receipts.of_kind(_KIND))
        return {
            each.chain_id: each.parent
            for each in found
            if each is not None and each.chain_id not in self._doubted
        }

    def _read(self, chain_id: ChainID) -> AbsentLayer | None:
        value = self._receipts.get(_key(chain_id))
        return None if value is None else _try(value)

    def note(self, layer: AbsentLayer) -> None:
        """Note where a layer can be had, before what is known of others."""
        known = self._read(layer.chain_id)
        if known is not None:
            origins = tuple(dict.fromkeys((*layer.origins, *known.origins)))[:_MOST_ORIGINS]
            if origins == known.origins:
                return
            layer = replace(layer, origins=origins)
        self._receipts.put(_key(layer.chain_id), _encode(layer))

    def touch(self, chain_ids: Iterable[ChainID]) -> None:
        """Say that what is known of chains is needed still."""
        for chain_id in chain_ids:
            self._receipts.get(_key(chain_id))

    def doubt(self, chain_id: ChainID, *, gone: bool) -> None:
        """Take a layer, as long as this store is open, for one that nobody has; if it is `gone` for good, for
        ever."""
        self._doubted.add(chain_id)
        if gone:
            self._receipts.delete(_key(chain_id))


def _key(chain_id: ChainID) -> str:
    return f"{_KIND} {chain_id}"


def _try(value: bytes) -> AbsentLayer | None:
    try:
        return _decode(value)
    except (FormatError, ValueError, TypeError, KeyError):  # written by another version
        return None


def _encode(layer: AbsentLayer) -> bytes:
    origins = [[each.kind, each.place, each.blob.value()] for each in layer.origins]
    return json.dumps([layer.parent, layer.diff_id, layer.size, origins], separators=(",", ":")).encode()


def _decode(value: bytes) -> AbsentLayer:
    parent, diff_id, size, origins = json.loads(value)
    return AbsentLayer(
        ChainID(parent) if parent else None,
        DiffID(Digest.parse(diff_id)),
        size,
        tuple(
            Origin(cast("OriginKind", kind), place, Descriptor.from_json(json.dumps(blob).encode()))
            for kind, place, blob in origins
        ),
    )
