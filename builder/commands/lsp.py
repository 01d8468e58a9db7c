"""Serve an editor: diagnostics, hover, completion, definitions, renaming and formatting of recipes.

An editor starts it, and speaks the Language Server Protocol on its standard input and output; docs/tools.md
tells how to set editors up. It needs pygls: pip install 'pybuild[lsp]'. Nothing of a recipe is run, and
neither root, network nor a store is needed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from builder.errors import HostError, UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "--stdio", action="store_true", help="speak on standard input and output, which is the default"
    )
    parser.add_argument(
        "--tcp", metavar="PORT", help="wait for one editor on this port of 127.0.0.1 instead, for debugging"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code: 0 if the editor ended it in due form, else 1."""
    port = None if args.tcp is None else _port(args.tcp)
    if port is not None and args.stdio:
        raise UsageError("either --stdio or --tcp", code="usage/arguments")
    try:
        from builder.lsp.server import make_server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("pygls", "lsprotocol"):
            raise
        raise HostError(
            "the language server needs pygls, which is not installed",
            code="host/pygls",
            hint="pip install 'pybuild[lsp]'",
        ) from None
    # There is nothing to put in order, and a thread that waits for standard input cannot be told to stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    server = make_server()
    if port is not None:
        print(f"waiting for an editor on 127.0.0.1:{port}", file=sys.stderr, flush=True)
        server.start_tcp("127.0.0.1", port)
        return 0 if server.finished else 1
    if sys.stdin.isatty():
        print("pybuild lsp: an editor starts this, and speaks to it; ctrl-C ends it", file=sys.stderr)
    sys.stdout.flush()
    # The protocol gets a descriptor of its own: what else is printed must not come between its messages.
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        server.start_io(sys.stdin.buffer, out)
    return 0 if server.finished else 1


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536):
        raise UsageError(f"--tcp {text}: not a port", code="usage/arguments", hint="a port is 1 to 65535")
    return int(text)
