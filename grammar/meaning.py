"""What a recipe says, whatever it looks like: to know that formatting it changed nothing."""

from __future__ import annotations

from grammar.ast import Command, Instruction, Onbuild, Recipe, Shell
from grammar.node import Node
from grammar.shell import ShellError, shell_gaps
from grammar.source import Span

POSIX_SHELLS = frozenset(("sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"))


def meaning(recipe: Recipe) -> object:
    """Return a value that is equal for recipes which differ in places, the case of keywords and blanks that
    mean nothing."""
    return _meaning(recipe, posix=reads_posix(recipe))


def reads_posix(recipe: Recipe) -> bool:
    """Whether every shell that the recipe names is a POSIX one, so that a run of blanks outside of quotes is
    as good as one."""
    if recipe.directives.escape != "\\":
        return False
    instructions = [each for stage in recipe.stages for each in stage.instructions]
    told = [each.trigger if isinstance(each, Onbuild) else each for each in instructions]
    return all(is_posix(each.args) for each in told if isinstance(each, Shell))


def is_posix(shell: tuple[str, ...]) -> bool:
    """Whether a SHELL is a POSIX one, by its name."""
    return shell[0].replace("\\", "/").rpartition("/")[2].removesuffix(".exe") in POSIX_SHELLS


def _meaning(value: object, *, posix: bool) -> object:
    if isinstance(value, Command) and value.shell and posix:
        value = value.replace(args=(narrowed(value.args[0]),))
    if isinstance(value, tuple):
        return tuple([_meaning(item, posix=posix) for item in value])
    if not isinstance(value, Node):
        return value
    fields = zip(value.__match_args__, value.values(), strict=True)
    text = isinstance(value, Instruction)
    told = [
        _meaning(field, posix=posix)
        for name, field in fields
        if not isinstance(field, Span) and not (text and name == "text")
    ]
    return type(value), tuple(told)


def narrowed(script: str) -> str:
    """Return a script of one line with one blank between its words. One that cannot be read is returned as it
    is."""
    try:
        gaps = shell_gaps(script)
    except ShellError:
        return script
    out: list[str] = []
    done = 0
    for start, end in gaps:
        out += (script[done:start], " " * bool(start))
        done = end
    return "".join([*out, script[done:]])
