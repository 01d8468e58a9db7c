"""List the containers that `pybuild run` left in the store, the newest first."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from builder.lookup import short_id
from builder.session import open_session
from builder.table import ago, print_table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids alone")
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    with open_session(args) as session:
        store = session.store.containers
        found = [(container, store.is_running(container.id)) for container in store.all()]
    if args.quiet:
        for container, _ in found:
            print(container.id[:12])
    elif args.json:
        print(json.dumps([{**asdict(c), "running": running} for c, running in found], indent=2))
    else:
        rows = []
        for container, running in found:
            state = (
                "running"
                if running
                else "killed"
                if container.status is None
                else f"exited ({container.status})"
            )
            line = " ".join(container.command)
            shown = line if len(line) <= 40 else line[:39] + "…"
            image = short_id(container.image)
            rows.append(
                (container.id[:12], container.name or "-", image, ago(container.created), state, shown)
            )
        print_table(("CONTAINER ID", "NAME", "IMAGE ID", "CREATED", "STATE", "COMMAND"), rows)
    return 0
