"""What a rule is, and what it looks at."""

from __future__ import annotations

import functools

from grammar.ast import Command, Instruction, Recipe, Run, Shell, Stage
from grammar.expand import SPACES
from grammar.meaning import POSIX_SHELLS, is_posix
from grammar.node import Node
from grammar.recover import Reading
from grammar.shell import ShellError
from grammar.shell_commands import ShellCommand, ShellWord, shell_commands
from grammar.source import Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from grammar.recover import Line

    Finding = tuple[Span, str, str | None] | tuple[Span, str, str | None, str]
    """Where, what is wrong, what to do about it, and the severity where it is not the rule's own."""
    Check = Callable[["Subject"], Iterator[Finding]]


class Rule(Node):
    """A rule. `whole`: it makes sense only of a recipe without syntax errors. `experimental`: it is off
    unless asked for by name."""

    name: str
    severity: str
    summary: str
    check: Callable[..., Any]
    whole: bool = False
    experimental: bool = False


def rule(
    name: str, severity: str, summary: str, *, whole: bool = False, experimental: bool = False
) -> Callable[[Check], Rule]:
    """Make a rule of a function that yields the findings in a Subject."""
    return lambda check: Rule(name, severity, summary, check, whole, experimental)


class Script(Node):
    """The shell commands of a RUN. `place` turns offsets in its text into a place in the recipe; `shell` is
    the argv that it is given to, () for the exec form; `document`: it is a heredoc's body."""

    stage: Stage
    run: Run
    shell: tuple[str, ...]
    commands: tuple[ShellCommand, ...]
    document: bool
    place: Callable[[int, int], Span]

    def span(self, command: ShellCommand) -> Span:
        """The place of a command."""
        return self.place(command.words[0].start, command.words[-1].end)

    def option(self, letter: str, name: str) -> bool:
        """Whether the shell is run with an option, such as `e`, `errexit`, or a `set` at its beginning gives
        it."""
        if _sets(self.shell[1:], letter, name):
            return True
        return any(
            c.program == "set" and not c.depth and _sets(c.arguments, letter, name) for c in self.commands
        )

    def mounts(self, *targets: str) -> bool:
        """Whether a cache or tmpfs is mounted over one of `targets` or above them."""
        for mount in self.run.mounts:
            target = mount.option("target")
            if target is not None and mount.type.text in ("cache", "tmpfs"):
                above = target.text.rstrip("/") + "/"
                if any((each + "/").startswith(above) or above.endswith(each + "/") for each in targets):
                    return True
        return False


class Subject:
    """What the rules look at: a recipe as far as it could be read.

    `ignored` tells whether a path of the build context is left out by its ignore file; None without a
    context.
    """

    def __init__(self, reading: Reading, ignored: Callable[[str], bool] | None = None) -> None:
        assert reading.recipe is not None, "there is nothing to look at"
        self.reading = reading
        self.recipe: Recipe = reading.recipe
        self.fragment = reading.fragment
        self.ignored = ignored
        self.lines = reading.source.lines

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages. A fragment is one, whose FROM is made up."""
        return self.recipe.stages

    @property
    def real_stages(self) -> tuple[Stage, ...]:
        """The stages that have a FROM."""
        return () if self.fragment else self.recipe.stages

    @functools.cached_property
    def by_place(self) -> dict[tuple[int, int], Line]:
        return {(line.logical.numbers[0], line.logical.columns[0]): line for line in self.reading.lines}

    def line(self, instruction: Instruction) -> Line | None:
        """Return the logical line of an instruction."""
        return self.by_place.get((instruction.span.line, instruction.span.column))

    def parent(self, stage: Stage) -> Stage | None:
        """Return the earlier stage that `stage` stands on, if it does."""
        return self._parents[stage.index]

    @functools.cached_property
    def _parents(self) -> list[Stage | None]:
        earlier: dict[str, Stage] = {}
        found: list[Stage | None] = []
        for stage in self.stages:
            found.append(earlier.get(stage.from_.image.text.lower()))
            if stage.name:
                earlier[stage.name] = stage
        return found

    @functools.cached_property
    def bases(self) -> frozenset[int]:
        """The numbers of the stages that become the image, or stand below one that does."""
        found: set[int] = set()
        stage: Stage | None = self.stages[-1]
        while stage is not None:
            found.add(stage.index)
            stage = self.parent(stage)
        return frozenset(found)

    @functools.cached_property
    def scripts(self) -> tuple[Script, ...]:
        """The commands of every RUN that can be read."""
        shells: dict[int, tuple[str, ...]] = {}
        found: list[Script] = []
        for stage in self.stages:
            parent = self.parent(stage)
            shell = shells[parent.index] if parent else ("/bin/sh", "-c")
            for instruction in stage.instructions:
                if isinstance(instruction, Shell):
                    shell = instruction.args
                elif isinstance(instruction, Run):
                    script = self._script(stage, instruction, shell)
                    if script is not None:
                        found.append(script)
            shells[stage.index] = shell
        return tuple(found)

    def _script(self, stage: Stage, run: Run, shell: tuple[str, ...]) -> Script | None:
        command = run.command
        if not command.shell:
            return _exec_script(stage, run, command)
        if command.alone:
            if command.heredocs[0].content.startswith("#!"):
                return None
            text, place = command.heredocs[0].body, _body_place(command)
        else:
            line = self.line(run)
            if line is None:
                return None
            text = command.args[0]
            base = len(line.logical.text.rstrip(SPACES)) - len(text)

            def place(start: int, end: int) -> Span:
                return line.logical.span(base + start, base + end)

        if not is_posix(shell):
            return None
        try:
            commands = shell_commands(text)
        except ShellError:
            return None
        return Script(stage, run, shell, commands, command.alone, place)


def _exec_script(stage: Stage, run: Run, command: Command) -> Script:
    args = command.args
    name = args[0].rpartition("/")[2]
    if len(args) > 2 and name in POSIX_SHELLS and args[-2].startswith("-") and args[-2].endswith("c"):
        try:
            commands = shell_commands(args[-1])
        except ShellError:
            commands = ()
        return Script(stage, run, args[:-1], commands, False, lambda _start, _end: run.span)
    words = tuple([ShellWord(arg, 0, 0) for arg in args])
    return Script(stage, run, (), (ShellCommand(words),), False, lambda _start, _end: run.span)


def _body_place(command: Command) -> Callable[[int, int], Span]:
    document = command.heredocs[0]

    def place(start: int, end: int) -> Span:
        first, last = (document.body.count("\n", 0, at) for at in (start, end))
        starts = [document.body.rfind("\n", 0, at) + 1 for at in (start, end)]
        span = document.span
        return Span(
            span.file, span.line + first, start - starts[0] + 1, span.line + last, end - starts[1] + 1
        )

    return place


def _sets(words: tuple[str, ...], letter: str, name: str) -> bool:
    """Whether the words of a shell's command line or of `set` switch an option on."""
    for at, word in enumerate(words):
        if word == name and at and words[at - 1].startswith("-") and words[at - 1].endswith("o"):
            return True
        if letter and word.startswith("-") and not word.startswith("--") and letter in word[1:]:
            return True
    return False
