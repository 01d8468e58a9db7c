"""Visits to steps that failed, and what comes after them: the build that goes on."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.debug.entering import Changed, Entering, Left
from builder.debug.keeping import Keeper, mended_of
from builder.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from builder.build import Settings
    from builder.debug.failedshell import Decision
    from builder.session import Session
    from cache.failedsteps import FailedStep
    from cache.records import Record
    from cache.scratch import Staging


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line of `debug` says. Secrets and agents are in place of the build's of the same
    names; `command` is carried out in place of a shell.
    """

    secrets: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    command: str | None = None
    user: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """How a visit ended: `status` is the command's, `mended` are the steps that somebody has mended by
    then.
    """

    decision: Decision
    status: int
    mended: Mapping[str, Record]


def follow(session: Session, failed: FailedStep, given: Given) -> int:
    """Visit a failed step, and go on with its build as often as that is wanted; return the exit code."""
    from builder.commands.build import carry_out

    while True:
        visit = enter(session, failed, given)
        if given.command is not None:
            return visit.status
        if visit.decision == "left":
            return 1  # the step has failed, still
        arguments = arguments_of(failed, given)
        session.store.failed_steps.remove(failed)
        keeper = Keeper(session.store, arguments, visit.mended)
        code = carry_out(session, arguments, keeper)
        if keeper.kept is None:
            return code
        failed = keeper.kept


def enter(session: Session, failed: FailedStep, given: Given) -> Visit:
    """Visit a failed step. Raises UsageError if somebody else is in it, BuildError, StoreError."""
    from cache.failedsteps import leave

    entered = session.store.failed_steps.enter(failed)
    if entered is None:
        raise UsageError(
            f"somebody else is in {failed.id[:8]}, or it is gone",
            code="debug/in-use",
            hint="`pybuild debug --list` lists those that there are",
        )
    try:
        return _enter(session, failed, entered, given)
    finally:
        leave(entered)


def _enter(session: Session, failed: FailedStep, entered: Staging, given: Given) -> Visit:
    from builder.cli import ERRORS

    mended = mended_of(failed)
    entering = Entering(failed, entered, mended, command=given.command, user=given.user)
    why = "it is not a step of the build any more"
    try:
        _replay(session, failed, entering, given)
    except Left:
        assert entering.decision is not None
        return Visit(entering.decision, entering.status, entering.mended)
    except Changed as changed:
        why = f"what the step stands on has changed: {changed.why}"
    except ERRORS as error:
        if entering.there:
            raise
        why = f"the build cannot be planned again: {getattr(error, 'message', error)}"
    from builder.debug.alone import open_alone

    shell = open_alone(session, failed, entered, why, given.user)
    if given.command is not None:
        return Visit("left", shell.carry_out(given.command), mended)
    return Visit(shell.visit(), 0, mended)


def _replay(session: Session, failed: FailedStep, entering: Entering, given: Given) -> None:
    """Plan and find again what led to the step. Raises Left, once it was visited, Changed, BuildError."""
    from builder.contexts import open_context

    arguments = arguments_of(failed, given)
    if "-" in (arguments.recipe, arguments.file, arguments.context_, arguments.context):
        raise Changed("it was read from standard input")
    try:
        os.chdir(failed.directory)
    except OSError as error:
        raise Changed(f"{failed.directory}: {error.strerror}") from None
    with open_context(arguments, session.store, entering.emit) as context:
        build = session.prepare(
            arguments, context, entering.emit, change=_as_found, inspection=entering, several=True
        )
        build.run(context.recipe, context.directory)


def _as_found(settings: Settings) -> Settings:
    """Return `settings` for a build that finds what was made, one stage after the other, and names
    nothing.
    """
    options = replace(settings.options, no_cache=())
    return replace(settings, options=options, names=(), no_cache=False, pull=False, jobs=1)


def arguments_of(failed: FailedStep, given: Given) -> argparse.Namespace:
    """Return the arguments of the build that a step failed in."""
    from builder.cli import parser

    found = parser("build").parse_args(["build"])
    known = vars(found).keys() - {"on_failure", "report"}
    for name, value in failed.more["arguments"].items():
        if name in known:
            setattr(found, name, value)
    found.secret = _replaced(found.secret, given.secrets, _secret_id)
    found.ssh = _replaced(found.ssh, given.agents, lambda text: text.partition("=")[0])
    return found


def _secret_id(text: str) -> str:
    words = dict(word.partition("=")[::2] for word in text.split(","))
    return words.get("id", "")


def _replaced(before: Iterable[str], given: Iterable[str], name: Callable[[str], str]) -> list[str]:
    names = {name(text) for text in given}
    return [*(text for text in before if name(text) not in names), *given]
