"""Remove layers, images without a name, blobs and records that nothing needs, the longest unused first.

What a named image, a container or a running build stands on stays. So do cache mounts, without
--cache-mounts. What steps that failed have left goes, unless --older-than says otherwise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TypeVar

from builder.errors import UsageError
from builder.session import open_session
from builder.table import ago, human_size, parse_age, parse_size, print_table
from cache.oci.digest import ChainID

_T = TypeVar("_T")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "--keep-storage", metavar="SIZE", help="leave up to SIZE (10GB, 512MiB) of what could go"
    )
    parser.add_argument("--older-than", metavar="AGE", help="only what was not used for AGE (24h, 7d)")
    parser.add_argument(
        "--cache-mounts", action="store_true", help="cache mounts, too (`pybuild cache-mounts` shows them)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parser.add_argument("-f", "--force", action="store_true", help="accepted: nothing is asked anyway")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument("-q", "--quiet", action="store_true", help="print the sum alone")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from cache.cachemounts_usage import all_mounts
    from cache.gc import Item, Policy, prune

    policy = Policy(
        older_than=parsed(parse_age, args.older_than, "--older-than", "24h or 7d"),
        keep_storage=parsed(parse_size, args.keep_storage, "--keep-storage", "10GB or 512MiB"),
    )
    with open_session(args) as session:
        store = session.store
        sizes = {step.id: store.failed_steps.size(step) for step in store.failed_steps.all()}
        failed = store.failed_steps.prune(policy.older_than, dry_run=args.dry_run)
        keep = [ChainID(c.chain_id) for c in store.containers.all() if c.chain_id]
        report = prune(store, policy, dry_run=args.dry_run, keep=keep, cache_mounts=args.cache_mounts)
        quiet = args.quiet and not args.json
        in_mounts = 0 if quiet else sum(mount.size for mount in all_mounts(store.cache_mounts))
    gone = [Item("failed step", step.id, sizes.get(step.id, 0), int(step.created)) for step in failed]
    freed = report.freed + sum(item.size for item in gone)
    report = replace(report, items=(*gone, *report.items), freed=freed)
    if args.json:
        print(json.dumps({**asdict(report), "cache_mounts": in_mounts}, indent=2))
        return 0
    if report.items and not args.quiet:
        rows = [
            (item.kind, (item.title or item.identity)[:26], ago(item.used), human_size(item.size))
            for item in report.items
        ]
        print_table(("KIND", "ID", "LAST USED", "SIZE"), rows)
    verb = "would free" if args.dry_run else "freed"
    text = f"{verb} {human_size(report.freed)} in {len(report.items)} items; kept {human_size(report.kept)}"
    if in_mounts and not args.cache_mounts:
        text += f"; {human_size(in_mounts)} are in cache mounts (--cache-mounts)"
    print(text)
    return 0


def parsed(parse: Callable[[str], _T], text: str | None, option: str, example: str) -> _T | None:
    """Return what an option's value means, None where it was not given. Raises UsageError."""
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError:
        raise UsageError(f"{option} {text!r}: write it like {example}", code="usage/value") from None
