"""Write down what the names in a recipe stand for: digests of bases, checksums of what ADD downloads,
commits.

It goes into a lock file beside the recipe, and one beside each recipe that it stands on. Builds then take
just that, and with --locked nothing else. What is locked stays as it is until --update asks for it anew.
Registries are asked, but nothing is pulled; a base by mmdebstrap is made, since only then is it known.

Exit code 0: done; with --check, all is as it was locked. 1: --check found something that is missing, or has
moved.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.locking import Making, Update


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="the recipe, or a directory with a Dockerfile"
    )
    parser.add_argument("-f", "--file", metavar="RECIPE", help="the recipe, as for build")
    parser.add_argument(
        "--update",
        action="append",
        nargs="?",
        const="",
        default=[],
        metavar="NAME",
        help="ask anew what NAME is (a base with or without its tag, a URL), or everything in the recipe; "
        "may be repeated",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; say what is missing, and what has moved"
    )
    parser.add_argument("--print", action="store_true", help="print the lock file in place of writing it")
    parser.add_argument(
        "--build-arg",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="set an ARG; without VALUE, from the environment",
    )
    parser.add_argument(
        "--build-context",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="let NAME mean something else, as for build",
    )
    parser.add_argument(
        "--platform", metavar="OS/ARCH", help="lock for this platform (default: this machine's)"
    )
    parser.add_argument(
        "--progress", choices=("auto", "tty", "plain", "json", "quiet"), help="how to show what goes on"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.commands.build import find_recipe
    from builder.errors import UsageError
    from builder.locking import Locking, stale
    from builder.options import bare_options
    from builder.recipes import RecipeLoader
    from builder.session import BaseResolver, open_session

    update = _update(args)
    args.context_ = args.context = None
    recipe, _ = find_recipe(args)
    if recipe == "-":
        raise UsageError("a recipe on standard input has no lock file", code="usage/arguments")
    with (
        open_session(args) as session,
        session.display(args.progress or session.config.progress) as display,
    ):
        bases = BaseResolver(session, display.emit, pull=False)
        try:
            options = bare_options(args, session.config)
            loader = RecipeLoader(session.store.memo)
            locking = Locking(
                session.store, bases, loader, options, display.emit, update=update, check=args.check
            )
            makings = locking.run(recipe)
        finally:
            bases.close()
    if args.check:
        _report(makings)
        return 1 if stale(makings) else 0
    for making in makings:
        _print(making) if args.print else _write(making)
    return 0


def _update(args: argparse.Namespace) -> Update:
    """`--update RECIPE` reads as if it were the name of a base: a recipe that is there is one."""
    from builder.locking import Update

    names = list(args.update)
    if args.recipe is None and args.file is None:
        for index, name in enumerate(names):
            if os.path.isfile(name) or os.path.isfile(os.path.join(name, "Dockerfile")):
                args.recipe = name
                names[index] = ""
                break
    return Update("" in names, tuple(name for name in names if name))


def _report(makings: Sequence[Making]) -> None:
    sys.stderr.flush()
    for making in makings:
        for problem in making.problems:
            print(f"{making.path}: {problem}")
        if not making.problems:
            print(f"{making.path} is up to date")


def _print(making: Making) -> None:
    from builder.lockfile import format_lock

    print(format_lock(making.new, making.recipe), end="")


def _write(making: Making) -> None:
    from builder.commands.build import write_text
    from builder.lockfile import format_lock

    changes = list(making.changes())
    if making.old is not None and not changes:
        print(f"{making.path} is as it was")
        return
    write_text(making.path, format_lock(making.new, making.recipe))
    print(f"wrote {making.path}")
    for change in changes:
        print(f"  {change}")
