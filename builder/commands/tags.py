"""List the tags of a repository in a registry."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import closing

from builder.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("repository", metavar="REPOSITORY", help="a name without a tag")
    parser.add_argument(
        "--sort",
        choices=("name", "natural"),
        help="by name, or as people count: 1.9 before 1.10 (default: as the registry sends them)",
    )
    parser.add_argument("-r", "--reverse", action="store_true", help="the other way round")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N alone")
    parser.add_argument("--json", action="store_true", help="print JSON, of the shape that skopeo prints")
    parser.add_argument("--authfile", metavar="FILE", help="the logins (default: $REGISTRY_AUTH_FILE, ...)")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.config import load
    from builder.pulling import named, pullable
    from builder.registries import configured, registry_client

    if args.limit is not None and args.limit < 1:
        raise UsageError("--limit is at least 1", code="usage/value")
    text = pullable(args.repository)
    config = load(args.config)
    reference = named(text, config)
    if "@" in text or ":" in text.rpartition("/")[2]:
        name = reference.familiar.partition("@")[0].removesuffix(f":{reference.tag}")
        raise UsageError(f"{text}: a repository has no tag here: {name}", code="usage/name")
    in_order = args.sort is None and not args.reverse
    client = registry_client(configured(config), args.authfile)
    with closing(client):
        found = _chosen(args, client.tags(reference, args.limit if in_order else None))
        if args.json:
            from builder.formats import to_json

            print(to_json({"Repository": reference.name, "Tags": list(found)}, indent=4))
        else:
            for tag in found:
                print(tag)
    return 0


def _chosen(args: argparse.Namespace, found: Iterator[str]) -> Iterable[str]:
    from itertools import islice

    if args.sort is not None or args.reverse:
        from cache.registry.tags import natural

        tags = list(found)
        if args.sort == "natural":
            tags.sort(key=natural)
        elif args.sort == "name":
            tags.sort()
        found = iter(tags[::-1] if args.reverse else tags)
    return islice(found, args.limit)
