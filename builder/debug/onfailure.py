"""What --on-failure asks for, once a build has failed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from builder.debug.keeping import Keeper
    from builder.session import Session


def after(session: Session, args: argparse.Namespace, keeper: Keeper, code: int) -> int:
    """Do what `args` ask for after a build that ended with `code`; return the exit code."""
    if args.on_failure == "report":
        from builder.debug.report import DEFAULT, write_report

        directory = args.report or DEFAULT
        write_report(session, keeper.kept, directory, keeper.events(), args)
        print(f"report: {directory}", file=sys.stderr)
        return code
    if keeper.kept is None or not (os.isatty(0) and os.isatty(1)):
        return code
    from builder.debug.visits import Given, follow

    print(flush=True)
    return follow(session, keeper.kept, Given())
