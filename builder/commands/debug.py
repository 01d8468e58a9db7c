"""Open a shell where a step failed: in its files as they were then, with its environment, user, directory,
mounts and network.

Without an argument it is the step that failed last in this directory; a recipe or an id names another one. In
the shell, `retry` runs the step again, `diff` shows what it has changed, `reset` goes back to before it, and
`continue` takes it as it is and goes on with the build. `exit` leaves all as it is.

With --on-failure, RECIPE is built, with the options that `build` takes; without it, these mean nothing but
--secret and --ssh, which stand in for those of the build.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from builder.commands.build import add_build_options, add_result_options, recipe_in
from builder.errors import UsageError
from builder.session import open_session
from builder.table import ago, print_table

if TYPE_CHECKING:
    from cache.failedsteps import FailedStep
    from cache.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a recipe, or an id that --list prints")
    parser.add_argument("context_", nargs="?", metavar="CONTEXT", help="with --on-failure: as of build")
    parser.add_argument("-l", "--list", action="store_true", help="list the steps that failed, and were kept")
    parser.add_argument("--json", action="store_true", help="print a JSON array (with --list)")
    parser.add_argument("--rm", action="store_true", help="remove the step; all of them, if none is named")
    parser.add_argument(
        "-c",
        "--command",
        dest="command_",
        metavar="COMMAND",
        help="run COMMAND in there; end with its exit code",
    )
    parser.add_argument("-u", "--user", metavar="USER[:GROUP]", default="", help="be this user in there")
    add_build_options(parser)
    add_result_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    if args.on_failure is not None:
        from builder.commands.build import run as build

        return build(args)
    from builder.debug.failedshell import require_terminal
    from builder.debug.visits import Given, follow

    with open_session(args) as session:
        store = session.store
        if args.list:
            _list(store.failed_steps.all(), as_json=args.json)
            return 0
        if args.rm:
            return _remove(store, args.recipe)
        failed = find_failed(store, args.recipe)
        if args.report is not None:
            from builder.debug.report import write_report
            from builder.debug.visits import arguments_of

            given = Given(tuple(args.secret), tuple(args.ssh))
            write_report(session, failed, args.report, None, arguments_of(failed, given))
            print(f"report: {args.report}", file=sys.stderr)
            return 0
        if args.command_ is None:
            require_terminal()
        return follow(session, failed, Given(tuple(args.secret), tuple(args.ssh), args.command_, args.user))


def find_failed(store: Store, text: str | None) -> FailedStep:
    """Return the failed step that `text` (a recipe, an id, None for this directory) means. Raises
    UsageError.
    """
    steps = store.failed_steps.all()
    if text is None:
        here = os.getcwd()
        found = [step for step in steps if here in (step.directory, os.path.dirname(step.recipe))]
        what = "here"
    elif os.path.exists(text):
        path = os.path.realpath(recipe_in(text) if os.path.isdir(text) else text)
        found = [step for step in steps if path in (step.recipe, os.path.realpath(step.file))]
        what = f"in {text}"
    else:
        one = store.failed_steps.find(text)
        found = [] if one is None else [one]
        what = f"with the id {text}"
    if not found:
        there = "`pybuild debug --list` lists those elsewhere" if steps else "they are kept for a day"
        raise UsageError(
            f"no step failed {what}" if text is None else f"there is no step {what} that failed",
            code="debug/unknown",
            hint=there,
        )
    return found[0]


def _remove(store: Store, text: str | None) -> int:
    steps = store.failed_steps.all() if text is None else (find_failed(store, text),)
    for step in steps:
        if store.failed_steps.remove(step):
            print(step.id[:8])
        elif text is not None:
            raise UsageError(f"somebody is in {step.id[:8]}", code="debug/in-use")
    return 0


def _list(steps: tuple[FailedStep, ...], *, as_json: bool) -> None:
    from builder.progress.printable import printable

    if as_json:
        plain = [{name: value for name, value in asdict(step).items() if name != "more"} for step in steps]
        print(json.dumps(plain, indent=2))
        return
    rows = [
        (
            step.id[:8],
            ago(int(step.created)),
            printable(f"{os.path.relpath(step.file)}:{step.line}"),
            printable(step.text if len(step.text) <= 40 else step.text[:39] + "…"),
            str(step.status) if step.status >= 0 else "-",
        )
        for step in steps
    ]
    print_table(("ID", "FAILED", "WHERE", "STEP", "CODE"), rows)
