"""The command line: which command it names, how its errors are shown, and the exit code that they give."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from builder.errors import BuildError, UsageError
from builder.version import VERSION
from cache.errors import CacheError
from grammar.errors import RecipeError

if TYPE_CHECKING:
    from types import FrameType, ModuleType

ERRORS = (BuildError, CacheError, RecipeError)
"""What a user's mistake, or the world's, raises; anything else is a bug."""

COMMANDS = {
    "build": "build an image from a recipe (the default command)",
    "debug": "open a shell in a step that failed, and go on from there",
    "shell": "open a shell before any line of a recipe",
    "run": "run a command in a new container of an image",
    "exec": "run a command in a container that runs",
    "bundle": "write an image as a bundle for runc or crun",
    "test": "test an image with pytest and testinfra",
    "ps": "list the containers that run",
    "logs": "print what a container has written",
    "stop": "end containers, with time to do it themselves",
    "kill": "send a signal to containers",
    "wait": "wait until containers have ended",
    "images": "list the images in the store",
    "history": "show the lines that made an image",
    "inspect": "show everything about an image or container, as JSON",
    "layers": "show an image's layers: digests, sizes, the lines that made them",
    "view": "show an image as a page: layers, files, waste, build",
    "diff": "show the files that differ between images, or from the base",
    "commit": "make an image of a stopped container",
    "containers": "list the containers that `run` left in the store",
    "rm": "remove containers",
    "tag": "give an image another name",
    "rmi": "remove names, and images that have none left",
    "load": "read images from an archive into the store",
    "save": "write images to an archive",
    "pull": "pull images from registries into the store",
    "push": "push an image of the store to a registry",
    "copy": "copy images between registries, layouts and archives",
    "tags": "list the tags of a repository in a registry",
    "login": "log in to a registry",
    "logout": "log out of a registry",
    "verify": "build a recipe twice, and name the files that differ",
    "du": "show what is in the store, what needs it, what a prune would take",
    "prune": "remove unused layers, images and records",
    "cache": "look at shared caches, and see to them",
    "cache-mounts": "list, prune, export and import what RUN --mount=type=cache keeps",
    "check": "say what is wrong with recipes, and what could be better",
    "fmt": "bring recipes into their usual form",
    "plan": "say what a build would do: what is cached, and why not",
    "lock": "pin what the names in a recipe stand for, in a file beside it",
    "lsp": "serve an editor: the language server for recipes",
    "doctor": "tell what this host can do, and what is missing",
    "completion": "print the completion script for a shell",
    "help": "explain a command",
    "version": "print the version",
}

_UNPRIVILEGED = frozenset(
    ("check", "fmt", "plan", "doctor", "completion", "help", "version", "lsp", "login", "logout", "tags")
)
"""Commands that make no mounts, and read no files that only root of the store can."""

RUN_ERROR = 125
"""What `run` ends with where it is not the container's command that failed, as with docker and podman."""

_EPILOG = """\
`pybuild RECIPE` is short for `pybuild build RECIPE`. Each command explains itself: `pybuild COMMAND --help`.

exit codes: 0 done, 1 a step or test failed, 2 the recipe or the command line is wrong,
3 a registry, base or archive could not be had, 4 the store or this host cannot do it
"""


class Terminated(KeyboardInterrupt):
    """Asked to end by a signal other than Ctrl-C; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Help(argparse.HelpFormatter):
    """Options with their value named once, and paragraphs filled to the terminal's width."""

    def __init__(self, prog: str) -> None:
        import shutil

        width = min(shutil.get_terminal_size().columns - 2, 100)
        super().__init__(prog, max_help_position=34, width=max(width, 40))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        import textwrap

        paragraphs = []
        for paragraph in text.strip().split("\n\n"):
            lines = paragraph.split("\n")
            # Short lines, one below the other, are meant as such; so is a list.
            if max(map(len, lines)) > 70 and not lines[-1].startswith(" "):
                lines = textwrap.wrap(" ".join(lines), width, break_on_hyphens=False)
            paragraphs.append("\n".join(indent + line for line in lines))
        return "\n\n".join(paragraphs)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are shown as all others are."""

    def error(self, message: str) -> NoReturn:
        """Raise the UsageError that says what is wrong."""
        hint = _nearest_option(self, message) or f"`{self.prog} --help` tells what there is"
        raise UsageError(f"{self.prog}: {message}", hint=hint)


def parser(only: str | None = None) -> Parser:
    """Return the parser of all commands, or with `only` of that one, whose module alone is imported."""
    top, commands = _top()
    for name in COMMANDS if only is None else (only,):
        _add_command(commands, name)
    return top


def command_module(name: str) -> ModuleType:
    """Return the module of a command: `arguments(parser)` and `run(arguments) -> exit code`."""
    return import_module(f"builder.commands.{name.replace('-', '_')}")


def command_help(name: str | None) -> str:
    """Return what `--help` prints for a command; with None, for pybuild itself."""
    top, commands = _top()
    if name is not None:
        return _add_command(commands, name).format_help()
    return top.format_help()


def run(argv: Sequence[str]) -> int:
    """Run the command that `argv` (without the program's name) names; return the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminate)
    words = _command_first(argv)
    command = words[0] if words and words[0] in COMMANDS else None
    try:
        if command is None:
            if words[:1] in (["-h"], ["--help"]):
                words = ["help"]
            elif words[:1] == ["--version"]:
                words = ["version"]
            else:
                _refuse_misspelt(words)
                words.insert(0, "build")
            command = words[0]
        module = command_module(command)
        sub = _add_command(_top()[1], command)
        # argparse takes all positional words where it meets the first, unless it is told to look for more.
        mixed = getattr(module, "INTERMIXED", False)
        arguments = (sub.parse_intermixed_args if mixed else sub.parse_args)(words[1:])
        if command not in _UNPRIVILEGED and not getattr(module, "JOINS", False):
            from builder import userns

            userns.try_enter()
        code = module.run(arguments)
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except ERRORS as error:
        return _show(error, command)
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt)
    except BrokenPipeError:
        # Nobody reads: that is no error. The descriptor is given away so that the interpreter's last flush
        # succeeds.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _show(_host_error(error), command)
    return int(code or 0)


def _top() -> tuple[Parser, argparse._SubParsersAction[Parser]]:
    top = Parser(
        prog="pybuild",
        usage="pybuild [COMMAND] ...",
        description="A daemonless container image builder: recipes in, OCI images out, no step done twice.",
        epilog=_list_of_commands() + _EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    top.add_argument(
        "--version", action="version", version=f"pybuild {VERSION}", help="print the version and exit"
    )
    commands = top.add_subparsers(
        dest="command", metavar="COMMAND", required=True, prog="pybuild", help=argparse.SUPPRESS
    )
    return top, commands


def _list_of_commands() -> str:
    # argparse has a list of its own, but puts what it says of the longer names below them.
    lines = [f"  {name:<12} {summary}" for name, summary in COMMANDS.items()]
    return "commands:\n" + "\n".join(lines) + "\n\n"


def _add_command(commands: argparse._SubParsersAction[Parser], name: str) -> Parser:
    module = command_module(name)
    sub = commands.add_parser(
        name,
        help=COMMANDS[name],
        description=(module.__doc__ or COMMANDS[name]).strip(),
        formatter_class=_Help,
        allow_abbrev=False,
    )
    module.arguments(sub)
    place = sub.add_argument_group("store and configuration")
    place.add_argument(
        "--root", metavar="DIR", help="the store (default: $PYBUILD_ROOT, else /var/lib/pybuild)"
    )
    place.add_argument(
        "--config", metavar="FILE", help="read FILE in place of the pybuild.toml that is found"
    )
    if name not in _UNPRIVILEGED:
        place.add_argument(
            "--snapshotter",
            choices=("auto", "overlay", "fuse-overlayfs", "copy"),
            help="what makes root filesystems (default: auto, the first that works)",
        )
    return sub


def _command_first(argv: Sequence[str]) -> list[str]:
    """Return the words with the command before --root and --config, which may stand before it."""
    at = 0
    while at < len(argv) and argv[at].partition("=")[0] in ("--root", "--config"):
        at += 1 if "=" in argv[at] else 2
    if at < len(argv) and argv[at] in COMMANDS:
        return [argv[at], *argv[:at], *argv[at + 1 :]]
    return list(argv)


def _refuse_misspelt(words: Sequence[str]) -> None:
    """Raise UsageError if the first word, taken for a recipe, is not there, and looks like a command."""
    word = words[0] if words else "-"
    if not word.isalpha() or os.path.lexists(word):
        return
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    if near or len(words) == 1:
        raise UsageError(
            f"there is no command {word!r}, and no recipe of that name",
            code="usage/command",
            hint=f"Did you mean {near[0]}?" if near else "`pybuild --help` lists the commands",
        )


def _nearest_option(parser: argparse.ArgumentParser, message: str) -> str | None:
    mark, _, rest = message.partition(": ")
    words = rest.split()
    if mark != "unrecognized arguments" or not words or not words[0].startswith("--"):
        return None
    import difflib

    near = difflib.get_close_matches(words[0].partition("=")[0], parser._option_string_actions, n=1)
    return f"Did you mean {near[0]}?" if near else None


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(number)


def _interrupted(interrupt: KeyboardInterrupt) -> int:
    number = interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT
    if number != signal.SIGHUP:
        print("pybuild: interrupted", file=sys.stderr)
    return 128 + number


def _host_error(error: OSError) -> Exception:
    """Return what an operating system error that nobody foresaw means to a user."""
    import errno

    from builder.errors import HostError
    from cache.errors import StoreFull

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"no space left: {error}", hint="`pybuild prune` frees what nothing uses")
    return HostError(str(error), code="host/os")


def _show(error: Exception, command: str | None) -> int:
    show(error)
    from builder.excerpts import exit_code

    if command in ("run", "exec"):
        status = getattr(error, "status", None)  # the command could not be started: 126 or 127
        return status if isinstance(status, int) else RUN_ERROR
    return exit_code(error)


def show(error: Exception) -> None:
    """Print an error on standard error, after what standard output has by then."""
    from builder.excerpts import render_error

    sys.stdout.flush()
    print(render_error(error), file=sys.stderr)
