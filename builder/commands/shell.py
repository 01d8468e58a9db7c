"""Open a shell in the state before a line of a recipe, or at the end of a stage.

What is needed up to there is built, or found in the cache; tests are left out. The shell has the environment,
user and directory that a RUN in its place would have. What it writes is thrown away.
"""

from __future__ import annotations

import argparse
import os
import re

from builder.commands.build import add_build_options
from builder.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="RECIPE[:LINE]",
        help="the state before LINE; with RECIPE#STAGE, at the end of STAGE (default: of the last one)",
    )
    parser.add_argument("context_", nargs="?", metavar="CONTEXT", help="the directory that COPY reads")
    parser.add_argument(
        "-c",
        "--command",
        dest="command_",
        metavar="COMMAND",
        help="run COMMAND; end with its exit code",
    )
    parser.add_argument("-u", "--user", metavar="USER[:GROUP]", default="", help="be this user in there")
    add_build_options(parser)
    parser.add_argument(
        "--progress", choices=("auto", "tty", "plain", "json", "quiet"), help="how to show what goes on"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code of the shell."""
    from builder.cli import ERRORS
    from builder.contexts import open_context
    from builder.debug.anywhere import CuttingLoader, Shell
    from builder.debug.entering import Left
    from builder.debug.failedshell import require_terminal
    from builder.excerpts import failure
    from builder.progress.printable import printable
    from builder.session import open_session

    stage, line = _place(args)
    if args.command_ is None:
        require_terminal()
    with open_session(args) as session, session.display(args.progress or session.config.progress) as display:

        def announce() -> None:
            display.close()
            if args.command_ is None:
                where = printable(f"{context.recipe}, {loader.where}")
                print(f"{where}. What is written here is thrown away.\n", flush=True)

        shell = Shell(session.store, args, command=args.command_, user=args.user, announce=announce)
        build = None
        try:
            with open_context(args, session.store, display.emit) as context:
                shell.recipe, shell.bases = context.recipe, session.bases
                build = session.prepare(args, context, shell.passing(display.emit), inspection=shell)
                build.loader = loader = CuttingLoader(session.store.memo, context.confined)
                loader.cutting(context.recipe, stage, line)
                build.run(context.recipe, context.directory)
        except Left:
            return shell.status
        except ERRORS as error:
            if shell.there:
                raise
            event = failure(error, build.loader.sources.values() if build is not None else ())
            display.emit(event)
            return event.exit_code
    raise AssertionError("the recipe was built, and its shell was not there")


def _place(args: argparse.Namespace) -> tuple[str | None, int | None]:
    """Take the stage and the line from what was typed. Raises UsageError."""
    stage, line = args.target, None
    args.target = None
    name = args.file or args.recipe
    if name is None or os.path.exists(name):
        return stage, line
    found = re.fullmatch(r"(.*?)(?::(\d+)|#(.+))", name, re.S)
    if found is None:
        return stage, line
    if stage is not None:
        raise UsageError("--target and a stage or line do not go together", code="usage/arguments")
    place = found[1] or None
    if args.file:
        args.file = place
    else:
        args.recipe = place
    return found[3], None if found[2] is None else int(found[2])
