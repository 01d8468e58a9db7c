"""Show what the store holds, how much of it nothing needs, and in which order a prune would take that.

With --verbose, each thing: what stays first, with what needs it, then what could go, what is worth most
first.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from builder.progress.units import duration
from builder.prunepolicies import KINDS
from builder.session import open_session
from builder.table import ago, human_size, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.diskusage import Entry, Usage


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("-v", "--verbose", action="store_true", help="list each thing, and what needs it")
    parser.add_argument(
        "--kind", action="append", choices=tuple(KINDS), metavar="KIND", help="only these kinds"
    )
    parser.add_argument("--no-trunc", action="store_true", help="--verbose: print whole ids")
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.diskusage import usage

    with open_session(args) as session:
        found = usage(session.store, int(time.time()))
    kinds = [KINDS[name] for name in args.kind or KINDS]
    entries = [entry for entry in found.entries if entry.item.kind in kinds]
    if args.json:
        print(json.dumps(_value(found, entries), indent=2))
        return 0
    if args.verbose:
        _list(entries, whole=args.no_trunc)
    else:
        _sum(found, entries, kinds)
    return 0


def _sum(found: Usage, entries: list[Entry], kinds: Sequence[str]) -> None:
    rows = []
    for kind in kinds:
        of_kind = [entry for entry in entries if entry.item.kind == kind]
        size = sum(entry.item.size for entry in of_kind)
        free = sum(entry.item.size for entry in of_kind if not entry.needed_by)
        rows.append((kind, str(len(of_kind)), human_size(size), human_size(free)))
    print_table(("KIND", "COUNT", "SIZE", "NOT NEEDED"), rows)
    size = sum(entry.item.size for entry in entries)
    free = sum(entry.item.size for entry in entries if not entry.needed_by)
    print(
        f"\n{human_size(size)}, {human_size(free)} of it not needed; {found.records} records of steps; "
        f"{human_size(found.free)} of {human_size(found.disk)} are free on the disk"
    )


def _list(entries: list[Entry], *, whole: bool) -> None:
    rows = [
        (
            entry.item.kind,
            (entry.item.title or entry.item.identity)[: None if whole else 26],
            human_size(entry.item.size),
            ago(entry.item.used),
            duration(entry.item.seconds) if entry.item.seconds else "-",
            entry.needed_by or "-",
        )
        for entry in entries
    ]
    print_table(("KIND", "ID", "SIZE", "LAST USED", "TOOK", "NEEDED BY"), rows)


def _value(found: Usage, entries: list[Entry]) -> dict[str, object]:
    return {
        "items": [{**asdict(entry.item), "needed_by": entry.needed_by} for entry in entries],
        "records": found.records,
        "disk": found.disk,
        "free": found.free,
    }
