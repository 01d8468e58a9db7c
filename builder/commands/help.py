"""Explain a command, as its --help does; without one, list them."""

from __future__ import annotations

import argparse
import sys


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("about", nargs="?", metavar="COMMAND", help="the command to explain")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.cli import COMMANDS, command_help
    from builder.errors import UsageError
    from builder.lookup import nearest

    if args.about is not None and args.about not in COMMANDS:
        raise UsageError(
            f"there is no command {args.about!r}",
            code="usage/command",
            hint=nearest(args.about, COMMANDS) or "`pybuild help` lists the commands",
        )
    sys.stdout.write(command_help(args.about))
    return 0
