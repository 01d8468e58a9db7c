"""The way back to a step: the build's plan is made again, all is found that was made by then, and where the
step would run there is its shell.

So what a shell sees is prepared by what prepares the step itself, secrets and the rest included; and whether
it is the same step is what its key says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from builder.debug.description import plain_request
from builder.debug.failedshell import Decision, FailedShell, Printed
from builder.events import StepOutput
from builder.steps import ExecStep, PackagesStep, TestStep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.errors import BuildError
    from builder.events import Event
    from builder.executor import Executor
    from builder.inspection import OpenStep
    from cache.failedsteps import FailedStep
    from cache.records import Record
    from cache.scratch import Staging


class Left(Exception):
    """The build ends here: the way was only to look."""


class Changed(Exception):
    """The step is not there any more: `why` in words."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Switch:
    """What runs the next command: the session's executor, or a shell in its place."""

    def __init__(self) -> None:
        self.now: Executor | None = None
        self.real: Executor | None = None

    def executor(self, executor: Callable[[], Executor]) -> Executor:
        """Return what runs the next command."""
        if self.now is not None:
            return self.now
        self.real = executor()
        return self.real


def open_shell(switch: Switch, opened: OpenStep, staging: Staging, executor: Executor) -> NoReturn:
    """Open the shell of a step, on the upper of `staging`. Raises ShellEnded."""
    step = opened.step
    switch.now = executor
    try:
        if isinstance(step, ExecStep | PackagesStep) or (isinstance(step, TestStep) and not step.suite):
            opened.work(staging)
        else:
            from dataclasses import replace

            request = replace(
                plain_request(opened), lower=opened.lower(), upper=staging.upper, work=staging.work
            )
            executor.run(request, lambda *_: None)
    finally:
        switch.now = None
    raise AssertionError("a step has run where a shell was to be")


class Entering:
    """Enters the failed step `failed`, which `entered` holds. `mended` are the steps above it that somebody
    has mended; with the decision `continue`, this one is among them afterwards.

    `command` is carried out in place of a visit.
    """

    def __init__(
        self,
        failed: FailedStep,
        entered: Staging,
        mended: Mapping[str, Record],
        *,
        command: str | None = None,
        user: str = "",
    ) -> None:
        self.decision: Decision | None = None
        self.status = 0
        self.there = False
        """True once the step was reached: what is raised then has to do with the step itself."""
        self.mended = dict(mended)
        self._failed = failed
        self._entered = entered
        self._command = command
        self._user = user
        self._switch = Switch()
        self._loud = False
        self._printed = Printed()

    def emit(self, event: Event) -> None:
        """Print what a step prints that is run again; what is found by the way is of no interest."""
        if self._loud and isinstance(event, StepOutput):
            self._printed.write(event.data)

    def reached(self, step: OpenStep) -> Record | None:
        """Open the shell, if it is the step; raise Left then."""
        if step.key.key != self._failed.key:
            record = self.mended.get(step.key.key)
            present = record is None or not record.diff_id or step.around.store.has(record.chain_id)
            return record if present else None
        self.there = True
        executor = step.around.executor()
        shell = FailedShell(
            step.around.store,
            self._failed,
            self._entered,
            step.lower(),
            executor,
            again=lambda real: self._again(step),
            shell=lambda shell: open_shell(self._switch, step, self._entered, shell),
            user=self._user,
        )
        if self._command is not None:
            self.status = shell.carry_out(self._command)
            self.decision = "left"
            raise Left
        self.decision = shell.visit()
        if self.decision == "continue":
            self.mended[step.key.key] = self._commit(step)
        raise Left

    def makes(self, step: OpenStep) -> None:
        """Raise Changed: what stood before the step was all made."""
        raise Changed(f"{step.step.text!r} would have to run before it")

    def failed(self, step: OpenStep, staging: Staging, error: BuildError) -> None:
        """Nothing is made here."""

    def executor(self, executor: Callable[[], Executor]) -> Executor:
        """Return what runs the next command."""
        return self._switch.executor(executor)

    def _again(self, step: OpenStep) -> None:
        self._loud = True
        try:
            step.work(self._entered)
        finally:
            self._loud = False
            self._printed.end_line()

    def _commit(self, opened: OpenStep) -> Record:
        from cache import idmap

        step = opened.step
        if isinstance(step, ExecStep) and idmap.single():
            from builder.adoption import adopt

            adopt(step.user, opened.lower(), self._entered)
        store, cache = opened.around.store, opened.around.cache
        if isinstance(step, TestStep):
            return cache.mended(opened.key, opened.line, opened.parent, None)
        with store.failed_steps.taken(self._entered) as staging:
            return cache.mended(opened.key, opened.line, opened.parent, staging)
