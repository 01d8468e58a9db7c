"""List the containers that run, the newest first; with --all, those that have ended, too."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from builder.formats import displayed, fill
from builder.lookup import short_id
from builder.session import open_session
from builder.table import ago, print_table

if TYPE_CHECKING:
    from builder.containerstate import State
    from cache.containers import Container


@dataclass(frozen=True, slots=True)
class Listed:
    """A container, and what is known of it while it runs; None if it does not."""

    container: Container
    running: bool
    state: State | None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("-a", "--all", action="store_true", help="those that have ended, too")
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids alone")
    parser.add_argument("--no-trunc", action="store_true", help="print whole ids and commands")
    parser.add_argument(
        "--format",
        metavar="TEXT",
        help="print TEXT for each, with {{.ID}}, {{.Names}}, {{.Status}}, ... filled in",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.containerstate import load

    with open_session(args) as session:
        store = session.store.containers
        found = []
        for container in store.all():
            running = store.is_running(container.id)
            if running or args.all:
                state = load(store.directory(container.id)) if running else None
                found.append(Listed(container, running, state))
    if args.json:
        print(json.dumps([_value(one) for one in found], indent=2))
        return 0
    rows = [_row(one, whole=args.no_trunc) for one in found]
    if args.quiet:
        print("".join(f"{row['ID']}\n" for row in rows), end="")
    elif args.format is not None:
        for row in rows:
            print(displayed(fill(args.format, dict(row))))
    else:
        columns = ("ID", "Image", "Command", "CreatedSince", "Status", "Ports", "Names")
        head = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
        print_table(head, [tuple(row[column] or "-" for column in columns) for row in rows])
    return 0


def status_of(one: Listed) -> str:
    """Return how a container is, in docker's words."""
    container = one.container
    if one.running:
        health = one.state.health if one.state is not None else ""
        shown = {"": "", "starting": " (health: starting)"}.get(health, f" ({health})")
        started = one.state.started if one.state is not None else container.created
        return f"Up {_lasted(started)}{shown}"
    if container.status is None:
        return "Dead"
    since = f" {ago(container.finished)}" if container.finished is not None else ""
    return f"Exited ({container.status}){since}"


def _lasted(started: int) -> str:
    text = ago(started).removesuffix(" ago")
    return text if text != "now" and started < time.time() - 1 else "less than a second"


def _value(one: Listed) -> dict[str, object]:
    health = one.state.health if one.state is not None else ""
    return {**asdict(one.container), "running": one.running, "health": health, "state": status_of(one)}


def _row(one: Listed, *, whole: bool) -> dict[str, str]:
    container = one.container
    line = " ".join(container.command)
    return {
        "ID": container.id if whole else container.id[:12],
        "Image": container.reference or (container.image if whole else short_id(container.image)),
        "ImageID": container.image,
        "Command": line if whole or len(line) <= 30 else line[:29] + "…",
        "CreatedSince": ago(container.created),
        "Status": status_of(one),
        "State": "running" if one.running else "dead" if container.status is None else "exited",
        "Health": one.state.health if one.state is not None else "",
        "Ports": ", ".join(container.ports),
        "Names": container.name,
        "Name": container.name,
    }
