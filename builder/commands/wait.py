"""Wait until containers have ended, and print their exit codes."""

from __future__ import annotations

import argparse

from builder.runningcontainers import find_container, open_containers

JOINS = True
"""It looks on: there is no need of a user namespace."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "container", nargs="+", metavar="CONTAINER", help="a name, an id, or the start of one"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    store = open_containers(args)
    found = [find_container(store, text) for text in args.container]
    for container in found:
        status = store.wait(container.id)
        print(137 if status is None else status, flush=True)
    return 0
