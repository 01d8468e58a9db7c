"""Show an image's layers, the lowest first: DiffID, ChainID, size, and the line that made each.

The DiffID is the sha256 of the layer's tar, and the name of its directory in overlay2/; the ChainID names the
directory in layerdb/sha256/. With --tree, where the bytes of each layer are, and which of them are wasted.
"""

from __future__ import annotations

import argparse
import json
import sys

from builder.commands.history import history
from builder.lookup import find_image, short_id
from builder.session import open_session
from builder.table import human_size, print_table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("image", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument("--no-trunc", action="store_true", help="print whole digests and lines")
    parser.add_argument(
        "--tree",
        action="store_true",
        help="show what each layer adds and hides, and where its bytes are",
    )
    parser.add_argument("--json", action="store_true", help="print JSON: an array, with --tree an object")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    if args.tree:
        return _tree(args)
    with open_session(args) as session:
        rows = [row for row in history(session.store, find_image(session.store, args.image)) if row["DiffID"]]
    rows.reverse()
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = []
    for row in rows:
        line = " ".join(str(row["CreatedBy"]).split())
        diff_id, chain_id = str(row["DiffID"]), str(row["ChainID"])
        if not args.no_trunc:
            diff_id, chain_id = short_id(diff_id), short_id(chain_id)
            line = line if len(line) <= 80 else line[:79] + "…"
        table.append((diff_id, chain_id, human_size(int(str(row["Size"]))), line))
    print_table(("DIFF ID", "CHAIN ID", "SIZE", "CREATED BY"), table)
    return 0


def _tree(args: argparse.Namespace) -> int:
    from builder.view.facts import look_into
    from builder.view.terminal import tree, tree_document

    with open_session(args) as session:
        facts = look_into(session.store, find_image(session.store, args.image))
    if args.json:
        print(json.dumps(tree_document(facts), indent=2))
        return 0
    width = None
    if sys.stdout.isatty():
        import shutil

        width = shutil.get_terminal_size().columns
    for line in tree(facts, width, whole=args.no_trunc):
        print(line)
    return 0
