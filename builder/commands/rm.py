"""Remove containers, with what they wrote. One that runs is refused unless --force kills it."""

from __future__ import annotations

import argparse

from builder.errors import UsageError
from builder.runningcontainers import find_container
from builder.session import open_session
from cache.containers import ContainerStore


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "container", nargs="*", metavar="CONTAINER", help="a name, an id, or the start of one"
    )
    parser.add_argument("-f", "--force", action="store_true", help="kill those that run; none is no error")
    parser.add_argument("-a", "--all", action="store_true", help="all that do not run")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.cli import ERRORS, show
    from builder.excerpts import exit_code

    if args.all == bool(args.container) and not (args.force and not args.all):
        raise UsageError("name containers, or say --all", code="usage/arguments")
    code = 0
    with open_session(args) as session:
        store = session.store.containers
        idle = [c.id for c in store.all() if not store.is_running(c.id)] if args.all else []
        for text in idle or args.container:
            try:
                _remove(store, text, force=args.force)
            except ERRORS as error:
                show(error)
                code = exit_code(error)
    return code


def _remove(store: ContainerStore, text: str, *, force: bool) -> None:
    if force and store.find(text) is None:
        return
    container = find_container(store, text)
    if force:
        store.kill(container.id)
    store.remove(container.id)
    print(container.name or container.id[:12])
