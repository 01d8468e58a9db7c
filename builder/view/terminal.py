"""The essence of an image in a terminal: its layers as a tree, each with its line, its size, and where its
bytes are; then what is wasted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from builder.table import human_size
from builder.view.heaviest import heaviest
from builder.view.stack import efficiency, waste

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.view.facts import Facts

_BAR = 20
_PATHS = 4
_WASTED = 8


def tree(facts: Facts, width: int | None, *, whole: bool = False) -> Iterator[str]:
    """Yield the lines, printable: recipe lines cut at 80 columns, all others at `width`, unless None or
    `whole`.
    """
    from builder.progress.printable import clip, printable

    for line in _lines(facts, whole):
        text = printable(line)
        yield text if whole or width is None else clip(text, width)


def tree_document(facts: Facts) -> dict[str, Any]:
    """Return the same as JSON has it, whole."""
    stack = facts.stack
    total, wasted = stack.total, stack.wasted
    layers = []
    for number, totals in enumerate(facts.totals):
        layers.append(
            {
                "DiffID": facts.layers[number].diff_id,
                "CreatedBy": _line_of(facts, number),
                "Size": facts.layers[number].size,
                "Bytes": totals.bytes,
                "Added": totals.added,
                "Changed": totals.changed,
                "Deleted": totals.deleted,
                "Hidden": totals.hid,
                "Largest": [
                    {"Path": "/" + os.fsdecode(path), "Bytes": size}
                    for path, size in heaviest(stack, number, _PATHS)
                ],
            }
        )
    return {
        "Id": facts.image.image_id,
        "Bytes": total,
        "Wasted": wasted,
        "Efficiency": round(efficiency(total, wasted), 4),
        "Layers": layers,
        "WastedPaths": [
            {
                "Path": "/" + os.fsdecode(each.path),
                "Bytes": each.bytes,
                "Layers": [layer + 1 for layer in each.layers],
                "HiddenBy": [layer + 1 for layer in each.hidden],
            }
            for each in waste(stack)
        ],
    }


def _lines(facts: Facts, whole: bool) -> Iterator[str]:
    stack = facts.stack
    total, wasted = stack.total, stack.wasted
    count = len(facts.layers)
    yield (
        f"{facts.name}  {human_size(total)} in {count} layer{'' if count == 1 else 's'}, "
        f"{human_size(wasted)} wasted: {_percent(efficiency(total, wasted))} efficient"
    )
    most = max((totals.bytes for totals in facts.totals), default=0)
    for number, totals in enumerate(facts.totals):
        last = number == count - 1
        bar = "█" * round(_BAR * totals.bytes / most) if most else ""
        if totals.bytes and not bar:
            bar = "▏"
        line = " ".join(_line_of(facts, number).split()) or "(no line)"
        if not whole and len(line) > 80:
            line = line[:79] + "…"
        changed = f"+{totals.added} ~{totals.changed} -{totals.deleted}"
        hid = f", hides {human_size(totals.hid)}" if totals.hid else ""
        yield f"{'└' if last else '├'}─ {number + 1}  {human_size(totals.bytes):>6} {bar:<{_BAR}}  {line}"
        stem = " " if last else "│"
        yield f"{stem}     {changed}{hid}"
        largest = heaviest(stack, number, _PATHS)
        for path, size in largest:
            yield f"{stem}     {human_size(size):>6}  /{os.fsdecode(path)}"
    found = waste(stack)
    if found:
        yield ""
        yield "wasted, since a later layer replaces or deletes it:"
        for each in found[:_WASTED]:
            where = ", ".join(
                f"{layer + 1}→{hidden + 1}" for layer, hidden in zip(each.layers, each.hidden, strict=True)
            )
            yield f"      {human_size(each.bytes):>6}  /{os.fsdecode(each.path)}  (layer {where})"
        rest = found[_WASTED:]
        if rest:
            yield f"      {human_size(sum(each.bytes for each in rest)):>6}  in {len(rest)} more"


def _line_of(facts: Facts, layer: int) -> str:
    return next((line.text for line in facts.lines if line.layer == layer), "")


def _percent(part: float) -> str:
    """Never 100% of what is not whole."""
    return "100%" if part == 1 else f"{min(99.9, 100 * part):.3g}%"
