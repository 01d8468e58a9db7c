"""What the page is given: a JSON document, as columns of numbers, so that 100,000 files stay small.

It is the page's alone: both are of one pybuild, and nothing else reads it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from builder.version import VERSION
from builder.view.stack import efficiency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.timeline import Timeline
    from builder.view.compare import Comparison
    from builder.view.facts import Facts


def document(images: Sequence[Facts], comparison: Comparison | None) -> dict[str, Any]:
    """Return the document of one image, or of two and what differs between them."""
    entries = [_image(facts) for facts in images]
    value: dict[str, Any] = {"version": VERSION, "images": [entry for entry, _ in entries]}
    if comparison is not None:
        (_, old), (_, new) = entries
        value["comparison"] = {
            "gone": [old[path] for path in comparison.gone],
            "new": [new[path] for path in comparison.new],
            "changed": [[old[path], new[path], how] for path, how in comparison.changed],
        }
    return value


def _image(facts: Facts) -> tuple[dict[str, Any], dict[bytes, int]]:
    """Return an image's part, and the number of each path in it."""
    tree, numbers = _tree(facts)
    image, config = facts.image, facts.image.config
    total, wasted = facts.stack.total, facts.stack.wasted
    return {
        "name": facts.name,
        "names": list(image.names),
        "id": image.image_id,
        "platform": str(config.platform),
        "created": config.created,
        "author": config.author,
        "config": config.config.value(),
        "base": facts.base,
        "total": total,
        "wasted": wasted,
        "efficiency": efficiency(total, wasted),
        "layers": _layers(facts),
        "lines": [
            {"text": line.text, "created": line.created, "comment": line.comment, "layer": line.layer}
            for line in facts.lines
        ],
        "tree": tree,
        "timeline": None if facts.timeline is None else _timeline(facts.timeline, facts.seconds),
    }, numbers


def _layers(facts: Facts) -> list[dict[str, Any]]:
    rows = []
    for layer, totals, record in zip(facts.layers, facts.totals, facts.records, strict=True):
        rows.append(
            {
                "diff": layer.diff_id,
                "chain": layer.chain_id,
                "size": layer.size,
                "bytes": totals.bytes,
                "added": totals.added,
                "changed": totals.changed,
                "deleted": totals.deleted,
                "hid": totals.hid,
                "seconds": None if record is None else round(record.seconds, 3),
                "made": None if record is None else record.created,
            }
        )
    return rows


def _tree(facts: Facts) -> tuple[dict[str, Any], dict[bytes, int]]:
    """Paths in the order of a walk: `names` between slashes, each with its `depth`. Versions, sorted by path:
    the number of the path (`node`), then as in stack.Version. Deletions: `[layer, node, files, bytes]`.
    """
    numbers: dict[bytes, int] = {}
    names: list[str] = []
    depths: list[int] = []
    columns: dict[str, list[int]] = {
        key: [] for key in ("node", "layer", "size", "bytes", "hidden", "mode", "uid", "gid")
    }
    kinds: list[str] = []
    for path, node in facts.stack.walk():
        number = numbers[path] = len(names)
        names.append(os.fsdecode(node.name))
        depths.append(path.count(b"/"))
        for version in node.versions:
            item = version.item
            change = "M" if version.retouched else version.change
            kinds.append(change + item.kind)
            values = (number, version.layer, item.size, version.bytes, version.hidden, item.mode, *item.owner)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    return {
        "names": "/".join(names),
        "depths": depths,
        "kinds": "".join(kinds),
        **columns,
        "deletions": [[d.layer, numbers[d.path], d.files, d.bytes] for d in facts.stack.deletions],
    }, numbers


def _timeline(timeline: Timeline, took: Mapping[str, float]) -> dict[str, Any]:
    return {
        "started": timeline.started,
        "seconds": timeline.seconds,
        "steps": [
            {
                "stage": step.stage,
                "number": step.number,
                "of": step.of,
                "text": step.text,
                "at": step.at,
                "outcome": step.outcome,
                "seconds": step.seconds,
                "waited": step.waited,
                "reason": step.reason,
                "took": took.get(step.key) if step.outcome == "cached" else None,
            }
            for step in timeline.steps
        ],
    }
