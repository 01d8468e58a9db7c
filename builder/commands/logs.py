"""Print what a container that `run --detach` started has written: its standard output and error, each on
ours.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.runningcontainers import find_container, open_containers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.containerlog import Entry

JOINS = True
"""A file is all that it reads: there is no need of a user namespace."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the container ends")
    parser.add_argument("-n", "--tail", metavar="N", default="all", help="the last N lines alone")
    parser.add_argument(
        "-t", "--timestamps", action="store_true", help="before each line, when it was written"
    )
    parser.add_argument("container", metavar="CONTAINER", help="a name, an id, or the start of one")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.containerlog import follow, read

    store = open_containers(args)
    container = find_container(store, args.container)
    directory = store.directory(container.id)
    tail = _tail(args.tail)
    if not container.detached:
        raise UsageError(
            f"container {args.container} was not run in the background: what it wrote was shown then",
            code="container/log",
        )
    if not args.follow:
        entries = list(read(directory))
        _print(entries if tail is None else entries[max(len(entries) - tail, 0) :], args.timestamps)
        return 0
    if _await_log(directory):
        more = lambda: store.is_running(container.id)  # noqa: E731
        _print(_followed(follow(directory, more), tail), args.timestamps)
    return 0


def _tail(text: str) -> int | None:
    if text == "all":
        return None
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"--tail {text!r}: write a number, or all", code="usage/value")
    return int(text)


def _await_log(directory: str) -> bool:
    """Wait for a container that has just been made; return whether there is a log."""
    for _ in range(100):
        if os.path.exists(directory + "/log"):
            return True
        time.sleep(0.02)
    return False


def _followed(entries: Iterable[Entry | None], tail: int | None) -> Iterator[Entry]:
    """Yield the last `tail` of what is there already, then all that comes."""
    waiting: list[Entry] | None = [] if tail is not None else None
    for entry in entries:
        if waiting is None:
            if entry is not None:
                yield entry
        elif entry is not None:
            waiting.append(entry)
        else:
            yield from waiting[max(len(waiting) - (tail or 0), 0) :]
            waiting = None
    if waiting is not None:
        yield from waiting[max(len(waiting) - (tail or 0), 0) :]


def _print(entries: Iterable[Entry], timestamps: bool) -> None:
    for text, stream, when in entries:
        data = f"{when} ".encode() + text if timestamps else text
        view = memoryview(data)
        while view:
            view = view[os.write(2 if stream == "stderr" else 1, view) :]
