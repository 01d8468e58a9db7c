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
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.build import Settings
    from builder.events import Emit
    from builder.locking import Making, Update
    from builder.locks import Locks
    from builder.plan import PlanOptions
    from builder.session import Session
    from builder.surroundings import PackagesRun


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    from builder.commands.build import add_build_options

    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="the recipe, or a directory with a Dockerfile"
    )
    parser.add_argument("context_", nargs="?", metavar="CONTEXT", help="the directory that COPY reads")
    parser.add_argument(
        "--update",
        action="append",
        nargs="?",
        const="",
        default=[],
        metavar="NAME",
        help="ask anew what NAME is (a base with or without its tag, a URL, a package or package manager), "
        "or everything in the recipe; may be repeated",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; say what is missing, and what has moved"
    )
    parser.add_argument("--print", action="store_true", help="print the lock file in place of writing it")
    add_build_options(parser)
    parser.add_argument(
        "--progress", choices=("auto", "tty", "plain", "json", "quiet"), help="how to show what goes on"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.baseresolver import BaseResolver
    from builder.commands.build import find_recipe
    from builder.deadline import deadline
    from builder.errors import UsageError
    from builder.limits import limits
    from builder.locking import Locking, stale
    from builder.options import plan_options
    from builder.recipes import RecipeLoader
    from builder.session import open_session

    update = _update(args)
    recipe, context = find_recipe(args)
    if recipe == "-":
        raise UsageError("a recipe on standard input has no lock file", code="usage/arguments")
    with (
        open_session(args) as session,
        deadline(limits(args, session.config).timeout),
        session.display(args.progress or session.config.progress) as display,
    ):
        bases = BaseResolver(session, display.emit, pull=False)
        try:
            options = session.fetched(plan_options(args, session.config), args, display.emit)
            loader = RecipeLoader(session.store.memo)
            locking = Locking(
                session.store, bases, loader, options, display.emit, update=update, check=args.check
            )
            makings = locking.run(recipe)
            locking.learn(recipe, partial(_build, session, args, recipe, context, display.emit))
        finally:
            bases.close()
    if args.check:
        _report(makings)
        return 1 if stale(makings) else 0
    for making in makings:
        _print(making) if args.print else _write(making)
    return 0


def _build(
    session: Session,
    args: argparse.Namespace,
    recipe: str,
    context: str,
    emit: Emit,
    options: PlanOptions,
    locks: Locks,
) -> Sequence[PackagesRun]:
    """Build a target of the recipe; return what its PACKAGES installed."""
    from builder.events import Notice

    emit(Notice("info", "lock/build", "what PACKAGES installs is known when it has run: building"))

    def changed(settings: Settings) -> Settings:
        return replace(settings, options=options, packages_anew=True)

    build = session.prepare(args, context, emit, locks=locks, change=changed)
    build.run(recipe, context)
    return build.packages


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
