"""The debug shell of a step that failed: what can be typed in there, and what comes of it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal

from builder.debug.kit import Kit
from builder.debug.shellexec import ShellEnded, ShellExecutor
from builder.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.executor import Executor
    from cache.failedsteps import FailedStep
    from cache.scratch import Staging
    from cache.store import Store

Decision = Literal["continue", "left"]

WORDS = ("retry", "diff", "reset", "continue")
_HELP = {
    "retry": "run the step again, on what you have changed",
    "diff": "show what the step, and you, have changed so far",
    "reset": "go back to the state before the step",
    "continue": "take it as it is, and go on with the build",
    "exit": "leave; all stays as it is",
}
_MOST_LINES = 10_000


class FailedShell:
    """A visit to a failed step, which `entered` holds, on the root filesystem `lower`."""

    def __init__(
        self,
        store: Store,
        failed: FailedStep,
        entered: Staging,
        lower: tuple[str, ...],
        executor: Executor,
        *,
        again: Callable[[Executor], None],
        shell: Callable[[Executor], None],
        refusal: str = "",
        user: str = "",
    ) -> None:
        """`again` runs the step with an executor, `shell` prepares a command of it, which the executor turns
        into a shell. `refusal`: why the build cannot go on from here.
        """
        self._store = store
        self._failed = failed
        self._entered = entered
        self._lower = lower
        self._executor = executor
        self._again = again
        self._shell = shell
        self._refusal = refusal
        self._user = user

    def carry_out(self, command: str) -> int:
        """Run a command in there; return its exit code."""
        self._store.failed_steps.prepare(self._entered)
        with self._kit() as kit:
            return self._attach(ShellExecutor(self._executor, kit, command=command, user=self._user)).status

    def visit(self) -> Decision:
        """Open the shell, again and again, until it is left or the build can go on."""
        directory = ""
        with self._kit() as kit:
            self._banner(kit)
            while True:
                self._store.failed_steps.prepare(self._entered)
                shell = ShellExecutor(self._executor, kit, directory=directory, user=self._user)
                ended = self._attach(shell)
                if ended.wish is None:
                    self._say(f"left as it is; `pybuild debug {self._failed.id[:8]}` comes back")
                    return "left"
                directory = ended.wish.directory
                if ended.wish.word == "continue":
                    self._say("continue: taken as it is")
                    return "continue"
                if ended.wish.word == "reset":
                    self._store.failed_steps.prepare(self._entered, anew=True)
                    self._say("reset: this is the state before the step")
                else:
                    self._retry()

    def _kit(self) -> Kit:
        answers: dict[str, Callable[[], str]] = {"diff": self._changes}
        if self._refusal:
            answers["continue"] = lambda: f"the build cannot go on from here: {self._refusal}\n"
        return Kit(self._store, (self._entered.upper, *self._lower), WORDS, answers, "debug")

    def _attach(self, executor: ShellExecutor) -> ShellEnded:
        try:
            self._shell(executor)
        except ShellEnded as ended:
            return ended
        raise AssertionError("a shell has ended, and nobody was told")

    def _retry(self) -> None:
        """Run the step as the build would, in a new sandbox, on the upper as it is."""
        from builder.cli import ERRORS, show

        self._say(f"retry: {self._failed.text}")
        self._store.failed_steps.prepare(self._entered)
        try:
            self._again(self._executor)
        except StepFailed as error:
            self._say(_how(self._failed, error.message))
        except ERRORS as error:
            show(error)
        except KeyboardInterrupt:
            self._say("retry: interrupted")
        else:
            go_on = "" if self._refusal else "; `continue` goes on with the build"
            self._say(f"it succeeded{go_on}")

    def _changes(self) -> str:
        from builder.progress.printable import printable
        from cache.compare import changes

        lines = []
        try:
            for kind, path in changes(self._entered.upper, self._lower):
                lines.append(f"{kind} {printable(path)}\n")
                if len(lines) == _MOST_LINES:
                    lines.append("and more\n")
                    break
        except OSError as error:
            lines.append(f"it is being changed: {error.strerror}\n")
        return "".join(lines) or "nothing\n"

    def _banner(self, kit: Kit) -> None:
        from builder.progress.printable import printable

        failed = self._failed
        lines = [
            f"{printable(failed.text)}",
            f"  at {printable(failed.file)}:{failed.line}, stage {printable(failed.stage)}",
            f"  {printable(_how(failed, failed.message))}",
            "",
            f"This is where it failed{_surroundings(failed, self._user)}. Type",
            *(
                f"  {word:<9} {text}"
                for word, text in _HELP.items()
                if word != "continue" or not self._refusal
            ),
        ]
        if self._refusal:
            lines += ["", f"The build cannot go on from here: {self._refusal}."]
        if kit.borrowed:
            lines += ["", "The image has no shell: this one is this host's busybox, mounted for as long."]
        print("\n".join(lines) + "\n", flush=True)

    def _say(self, text: str) -> None:
        from builder.progress.printable import printable

        print(f"pybuild: {printable(text)}", flush=True)


class Printed:
    """What a step prints that is run again, on standard output as it comes."""

    def __init__(self) -> None:
        self._last = b"\n"

    def write(self, data: bytes) -> None:
        """Print a piece, cut anywhere."""
        sys.stdout.flush()
        self._last = data[-1:] or self._last
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]

    def end_line(self) -> None:
        """Begin a line, unless one begins."""
        if self._last != b"\n":
            self.write(b"\n")


def _how(failed: FailedStep, message: str) -> str:
    """Return what a message says without what it says of the step, which is told anyway."""
    return message.removesuffix(f": {failed.text}").replace("\n", " ")


def _surroundings(failed: FailedStep, user: str) -> str:
    step = failed.more.get("step", {})
    mounts = ", ".join(each["target"] or each.get("env", "") for each in step.get("mounts", ()))
    words = [f"as {user or step.get('user') or 'root'} in {step.get('workdir', '/')}"]
    if step.get("network") == "none":
        words.append("without a network")
    if mounts:
        words.append(f"with its mounts ({mounts})")
    return ", " + ", ".join(words)


def require_terminal() -> None:
    """Raise UsageError if nobody can type."""
    from builder.errors import UsageError

    if not (os.isatty(0) and os.isatty(1)):
        raise UsageError(
            "a shell needs a terminal",
            code="debug/terminal",
            hint="-c COMMAND runs a command in there without one",
        )
