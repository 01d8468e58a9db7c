"""Remove layers, images without a name, blobs and records that nothing needs, what is worth least first.

What a named image, a container or a running build stands on stays. So do cache mounts, without
--cache-mounts. With no option that says what is to go, `[prune]` of pybuild.toml does; else all goes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from builder.progress.units import duration
from builder.prunepolicies import policies
from builder.session import open_session
from builder.table import ago, human_size, print_table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "--keep-storage", metavar="SIZE", help="leave up to SIZE (10GB, 512MiB) of what could go"
    )
    parser.add_argument("--older-than", metavar="AGE", help="only what was not used for AGE (24h, 7d)")
    parser.add_argument(
        "--min-free", metavar="SIZE", help="only until SIZE (20GB), or a share (10%%), of the disk is free"
    )
    parser.add_argument(
        "--kind",
        action="append",
        default=[],
        metavar="KIND[,KIND]",
        help="only layer, image, blob, cache-mount, repository or failed-step; may be repeated",
    )
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="POLICY",
        help="bounds together, as older-than=30d,kind=layer+blob; may be repeated: each is met in turn",
    )
    parser.add_argument(
        "-a", "--all", action="store_true", help="all that nothing needs, whatever pybuild.toml says"
    )
    parser.add_argument(
        "--cache-mounts", action="store_true", help="cache mounts, too (`pybuild cache-mounts` shows them)"
    )
    parser.add_argument(
        "--filter", action="append", default=[], metavar="until=AGE", help="as --older-than AGE"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parser.add_argument("-f", "--force", action="store_true", help="accepted: nothing is asked anyway")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument("-q", "--quiet", action="store_true", help="print the sum alone")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from cache.cachemounts_usage import all_mounts
    from cache.gc import prune

    with open_session(args) as session:
        store = session.store
        asked = policies(args, session.config, store.root)
        mounts_too = any("cache mount" in policy.kinds for policy in asked)
        report = prune(store, asked, dry_run=args.dry_run)
        quiet = args.quiet and not args.json
        in_mounts = 0 if quiet else sum(mount.size for mount in all_mounts(store.cache_mounts))
    if args.json:
        print(json.dumps({**asdict(report), "cache_mounts": in_mounts}, indent=2))
        return 0
    if report.items and not args.quiet:
        rows = [
            (
                item.kind,
                (item.title or item.identity)[:26],
                ago(item.used),
                duration(item.seconds) if item.seconds else "-",
                human_size(item.size),
            )
            for item in report.items
        ]
        print_table(("KIND", "ID", "LAST USED", "TOOK", "SIZE"), rows)
    verb = "would free" if args.dry_run else "freed"
    text = f"{verb} {human_size(report.freed)} in {len(report.items)} items; kept {human_size(report.kept)}"
    if report.missing:
        text += f"; {human_size(report.missing)} more should be free"
    if in_mounts and not mounts_too:
        text += f"; {human_size(in_mounts)} are in cache mounts (--cache-mounts)"
    print(text)
    return 0
