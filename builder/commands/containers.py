"""List the containers that `pybuild run` left in the store, the newest first."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from builder.formats import displayed, fill
from builder.lookup import short_id
from builder.session import open_session
from builder.table import ago, print_table
from cache.containers import Container


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("-a", "--all", action="store_true", help="accepted: all are listed anyway")
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids alone")
    parser.add_argument("--no-trunc", action="store_true", help="print whole ids and commands")
    parser.add_argument(
        "--format",
        metavar="TEXT",
        help="print TEXT for each, with {{.ID}}, {{.Name}}, {{.State}}, ... filled in",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    with open_session(args) as session:
        store = session.store.containers
        found = [(container, store.is_running(container.id)) for container in store.all()]
    if args.json:
        print(json.dumps([{**asdict(c), "running": running} for c, running in found], indent=2))
        return 0
    rows = [_row(container, running, whole=args.no_trunc) for container, running in found]
    if args.quiet:
        print("".join(f"{row['ID']}\n" for row in rows), end="")
    elif args.format is not None:
        for row in rows:
            print(displayed(fill(args.format, dict(row))))
    else:
        columns = ("ID", "Name", "Image", "CreatedSince", "State", "Command")
        head = ("CONTAINER ID", "NAME", "IMAGE ID", "CREATED", "STATE", "COMMAND")
        print_table(head, [tuple(row[column] or "-" for column in columns) for row in rows])
    return 0


def state_of(container: Container, running: bool) -> str:
    """Return how a container is, in a word or two."""
    if running:
        return "running"
    return "killed" if container.status is None else f"exited ({container.status})"


def _row(container: Container, running: bool, *, whole: bool) -> dict[str, str]:
    line = " ".join(container.command)
    return {
        "ID": container.id if whole else container.id[:12],
        "Name": container.name,
        "Names": container.name,
        "Image": container.image if whole else short_id(container.image),
        "CreatedSince": ago(container.created),
        "State": state_of(container, running),
        "Command": line if whole or len(line) <= 40 else line[:39] + "…",
    }
