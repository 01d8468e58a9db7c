"""Completion scripts for shells, made from the command line's own parser: they know just what it knows.

The scripts hold the words; only images, containers, cache mounts and registries with a login are asked for
while completing, and stages are read from the recipe named on the line.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

SHELLS = ("bash", "zsh", "fish")

KINDS = {
    "RECIPE": "recipe",
    "RECIPE[:LINE]": "recipe",
    "IMAGE": "image",
    "IMAGE[:TAG]": "image",
    "NAME": "image",
    "NAME[:TAG]": "image",
    "CONTAINER": "container",
    "ID": "cache-mount",
    "REGISTRY": "registry",
    "STAGE": "stage",
    "DIR": "directory",
    "CONTEXT": "directory",
    "FILE": "file",
    "ARCHIVE": "file",
}
"""What completes an argument, by its metavar; anything else is the user's to know."""

STAGES = r"'s/^[[:space:]]*FROM[[:space:]].*[[:space:]]AS[[:space:]]+([A-Za-z0-9._-]+).*/\1/Ip'"
"""What sed -nE prints a recipe's stages with, quoted for all three shells; no name that these expand."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option: its spellings, its help, and what completes its value (None: it takes none)."""

    names: tuple[str, ...]
    help: str
    value: str | None
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A command.

    Its options, and what completes its arguments in their order; the last one may be repeated.
    """

    name: str
    help: str
    options: tuple[Option, ...]
    arguments: tuple[tuple[str, tuple[str, ...]], ...]
    repeats: bool


def commands(parser: argparse.ArgumentParser) -> tuple[Command, ...]:
    """Return the commands that `parser` knows."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return tuple(_command(name, summaries.get(name, ""), sub) for name, sub in action.choices.items())
    return ()


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the completion script of `parser`'s program for `shell`, one of SHELLS."""
    known = commands(parser)
    top = tuple(_options(parser))
    if shell == "bash":
        from builder.completions.bash import write
    elif shell == "zsh":
        from builder.completions.zsh import write
    else:
        from builder.completions.fish import write
    return write(known, top)


def _command(name: str, summary: str, parser: argparse.ArgumentParser) -> Command:
    positional = [
        action for action in parser._actions if not action.option_strings and action.help != argparse.SUPPRESS
    ]
    arguments = tuple((_kind(action), tuple(map(str, action.choices or ()))) for action in positional)
    repeats = bool(positional) and positional[-1].nargs in ("*", "+", argparse.REMAINDER)
    return Command(name, summary, tuple(_options(parser)), arguments, repeats)


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        if action.option_strings and action.help != argparse.SUPPRESS:
            takes_value = action.nargs != 0
            yield Option(
                tuple(action.option_strings),
                _first_words(action.help or ""),
                _kind(action) if takes_value else None,
                tuple(map(str, action.choices or ())),
            )


def _kind(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.option_strings and metavar == "NAME":
        return "other"  # a new name: `run --name`
    return "choice" if action.choices else KINDS.get(metavar, "other")


def _first_words(text: str) -> str:
    return " ".join(text.replace("%%", "%").split()).partition(" (")[0]
