"""Send a signal to the commands of containers that run: SIGKILL, unless it is said which."""

from __future__ import annotations

import argparse

from builder.runningcontainers import each, open_containers

JOINS = True
"""Each container's user namespace is entered, in place of one of its own."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("-s", "--signal", metavar="SIGNAL", default="KILL", help="its name or number")
    parser.add_argument(
        "container", nargs="+", metavar="CONTAINER", help="a name, an id, or the start of one"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.stopping import number_of, send

    number = number_of(args.signal)
    store = open_containers(args)
    return each(store, args.container, lambda container: send(store, container, number))
