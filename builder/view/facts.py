"""All that is shown of an image: its layers' files laid upon each other, its history, its config, how it was
built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.view.scan import scan
from builder.view.stack import Stack, Totals, totals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.lookup import StoredImage
    from builder.timeline import Timeline
    from cache.layers import Layer
    from cache.oci.spec import History
    from cache.records import Record
    from cache.store import Store


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of the history. `layer` counts from 0, None where the entry made none."""

    text: str
    created: str | None
    comment: str
    layer: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """An image, looked into. `layers` and `diffs` (their changesets' directories) are the lowest first, as is
    all else; `seconds` is by step key what a step of the timeline took when it ran; `base` is how many layers
    the base has, None if that is not known."""

    image: StoredImage
    layers: tuple[Layer, ...]
    diffs: tuple[str, ...]
    stack: Stack
    totals: tuple[Totals, ...]
    lines: tuple[Line, ...]
    records: tuple[Record | None, ...]
    timeline: Timeline | None
    seconds: Mapping[str, float]
    base: int | None

    @property
    def name(self) -> str:
        """What to call it: its first name, else its id."""
        return self.image.names[0] if self.image.names else self.image.image_id


def look_into(store: Store, image: StoredImage) -> Facts:
    """Return what there is to know of an image of the store. Raises StoreError, FormatError."""
    from builder.timeline import recall

    layers = store.layers.chain(image.chain_id) if image.chain_id is not None else ()
    diffs = tuple(store.layers.diff_path(layer) for layer in layers)
    stack = Stack(scan(diff) for diff in diffs)
    timeline = recall(store, image.image_id)
    keys = [step.key for step in timeline.steps] if timeline is not None else []
    return Facts(
        image,
        layers,
        diffs,
        stack,
        totals(stack),
        _lines(image.config.history, len(layers)),
        _records(store, layers),
        timeline,
        {key: round(record.seconds, 3) for key, record in store.records.get_many(keys).items()},
        _base(store, image, layers),
    )


def _lines(history: tuple[History, ...], layers: int) -> tuple[Line, ...]:
    lines = []
    next_layer = 0
    for entry in history:
        layer = None
        if not entry.empty_layer and next_layer < layers:
            layer = next_layer
            next_layer += 1
        lines.append(Line(entry.created_by, entry.created, entry.comment, layer))
    # Layers that no history speaks of: some tools write none.
    lines += [Line("", None, "", layer) for layer in range(next_layer, layers)]
    return tuple(lines)


def _records(store: Store, layers: tuple[Layer, ...]) -> tuple[Record | None, ...]:
    """Return for each layer the newest record of the step that made it here."""
    wanted = {layer.chain_id for layer in layers}
    found: dict[tuple[str, str], Record] = {}
    for record in store.records:
        if record.diff_id is not None and record.chain_id in wanted:
            found[record.parent, record.chain_id] = record
    return tuple(found.get((layer.parent or "", layer.chain_id)) for layer in layers)


def _base(store: Store, image: StoredImage, layers: tuple[Layer, ...]) -> int | None:
    known = store.memo.get("base", image.image_id)
    if known is None:
        return None
    chain_id = known.decode()
    for number, layer in enumerate(layers, 1):
        if layer.chain_id == chain_id:
            return number
    return None if chain_id else 0
