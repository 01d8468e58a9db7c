"""Remove containers that do not run, with what they wrote."""

from __future__ import annotations

import argparse

from builder.errors import UsageError
from builder.session import open_session
from cache.containers import Container, ContainerStore


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "container", nargs="*", metavar="CONTAINER", help="a name, an id, or the start of one"
    )
    parser.add_argument("-a", "--all", action="store_true", help="all that do not run")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    if args.all == bool(args.container):
        raise UsageError("name containers, or say --all", code="usage/arguments")
    with open_session(args) as session:
        store = session.store.containers
        if args.all:
            doomed = [c for c in store.all() if not store.is_running(c.id)]
        else:
            doomed = [find_container(store, text) for text in args.container]
        for container in doomed:
            store.remove(container.id)
            print(container.name or container.id[:12])
    return 0


def find_container(store: ContainerStore, text: str) -> Container:
    """Return the container that `text` means. Raises UsageError if there is none."""
    found = store.find(text)
    if found is None:
        raise UsageError(
            f"there is no container {text!r}",
            code="container/unknown",
            hint="`pybuild containers` lists them",
        )
    return found
