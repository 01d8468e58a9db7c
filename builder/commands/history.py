"""Show the lines that made an image, the newest first."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from builder.bases.base import parse_time
from builder.formats import displayed, fill
from builder.lookup import StoredImage, find_image
from builder.session import open_session
from builder.table import ago, human_size, print_table

if TYPE_CHECKING:
    from cache.absent import AbsentLayer
    from cache.layers import Layer
    from cache.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("image", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument("--no-trunc", action="store_true", help="print whole lines")
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids alone")
    parser.add_argument(
        "--format",
        metavar="TEXT",
        help="print TEXT for each line, with {{.CreatedBy}}, {{.Size}}, ... filled in",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    with open_session(args) as session:
        rows = history(session.store, find_image(session.store, args.image))
    if args.json:
        print(json.dumps(rows, indent=2))
    elif args.format is not None:
        for row in rows:
            print(displayed(fill(args.format, row)))
    elif args.quiet:
        for row in rows:
            print(row["ChainID"] or "<empty>")
    else:
        width = 10**9 if args.no_trunc else 80
        table = []
        for row in rows:
            line = " ".join(str(row["CreatedBy"]).split())
            shown = line if len(line) <= width else line[: width - 1] + "…"
            created = ago(parse_time(row["Created"] if isinstance(row["Created"], str) else None))
            table.append((created, human_size(int(str(row["Size"]))), shown))
        print_table(("CREATED", "SIZE", "CREATED BY"), table)
    return 0


def history(store: Store, image: StoredImage) -> list[dict[str, object]]:
    """Return the image's history, the newest first, each line with its layer's DiffID, ChainID and size."""
    layers: list[Layer | AbsentLayer] = []
    if image.chain_id:
        layers += store.stack(image.chain_id) or store.layers.chain(image.chain_id)
    rows: list[dict[str, object]] = []
    for entry in image.config.history:
        layer = None if entry.empty_layer or not layers else layers.pop(0)
        rows.append(
            {
                "Created": entry.created,
                "CreatedBy": entry.created_by,
                "Comment": entry.comment,
                "Size": layer.size if layer else 0,
                "DiffID": layer.diff_id if layer else None,
                "ChainID": layer.chain_id if layer else None,
            }
        )
    # Layers that no history speaks of: some tools write none.
    rows += [
        {
            "Created": None,
            "CreatedBy": "",
            "Comment": "",
            "Size": layer.size,
            "DiffID": layer.diff_id,
            "ChainID": layer.chain_id,
        }
        for layer in layers
    ]
    rows.reverse()
    return rows
