"""End containers: their stop signal first, SIGKILL for those that are still there after a while."""

from __future__ import annotations

import argparse

from builder.errors import UsageError
from builder.runningcontainers import each, open_containers

JOINS = True
"""Each container's user namespace is entered, in place of one of its own."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "-t", "--time", metavar="SECONDS", default="10", help="how long they have to end (default: 10)"
    )
    parser.add_argument(
        "container", nargs="+", metavar="CONTAINER", help="a name, an id, or the start of one"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.stopping import stop

    try:
        seconds = float(args.time)
        if not 0 <= seconds < 1e6:
            raise ValueError
    except ValueError:
        raise UsageError(f"--time {args.time!r}: write seconds", code="usage/value") from None
    store = open_containers(args)
    return each(store, args.container, lambda container: stop(store, container, seconds))
