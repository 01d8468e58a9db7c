"""The command line: which command it names, how its errors are shown, and the exit code that they give."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from builder.errors import BuildError
from builder.version import VERSION
from cache.errors import CacheError
from grammar.errors import RecipeError

if TYPE_CHECKING:
    from types import ModuleType

ERRORS = (BuildError, CacheError, RecipeError)
"""What a user's mistake, or the world's, raises; anything else is a bug."""

COMMANDS = {
    "build": "build an image from a recipe (the default command)",
    "run": "run a command in a new container of an image",
    "images": "list the images in the store",
    "history": "show the lines that made an image",
    "inspect": "show everything about an image, as JSON",
    "layers": "show an image's layers: DiffID, ChainID, size, and the line that made each",
    "diff": "show the files that differ between two images, or an image and its base",
    "commit": "make an image of a stopped container",
    "containers": "list the containers that `run` left in the store",
    "rm": "remove containers",
    "tag": "give an image another name",
    "rmi": "remove names, and images that have none left",
    "load": "read images from an archive into the store",
    "save": "write images to an archive",
    "verify": "build a recipe twice in fresh stores, and name the files that differ",
    "prune": "remove unused layers, images and records",
    "doctor": "tell what this host can do, and what is missing",
    "completion": "print the completion script for a shell",
}

_EPILOG = """\
`pybuild RECIPE` is short for `pybuild build RECIPE`. Each command explains itself: `pybuild COMMAND --help`.

exit codes: 0 done, 1 a step or test failed, 2 the recipe or the command line is wrong,
3 a registry, base or archive could not be had, 4 the store or this host cannot do it
"""


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands, or with `only` of that one, whose module alone is imported."""
    top = argparse.ArgumentParser(
        prog="pybuild",
        description="A daemonless container image builder: recipes in, OCI images out, no step done twice.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"pybuild {VERSION}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for name, summary in COMMANDS.items():
        if only is not None and name != only:
            continue
        module = command_module(name)
        sub = commands.add_parser(
            name,
            help=summary,
            description=(module.__doc__ or summary).strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.add_argument(
            "--root", metavar="DIR", help="the store (default: $PYBUILD_ROOT, else /var/lib/pybuild)"
        )
        sub.add_argument(
            "--config", metavar="FILE", help="read this file in place of the pybuild.toml that is found"
        )
        module.arguments(sub)
    return top


def command_module(name: str) -> ModuleType:
    """Return the module of a command: `arguments(parser)` and `run(arguments) -> exit code`."""
    return import_module(f"builder.commands.{name}")


def run(argv: Sequence[str]) -> int:
    """Run the command that `argv` (without the program's name) names; return the exit code."""
    words = list(argv)
    if not words or (words[0] not in COMMANDS and words[0] not in ("-h", "--help", "--version")):
        words.insert(0, "build")
    only = words[0] if words[0] in COMMANDS else None
    try:
        arguments = parser(only).parse_args(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    return _guarded(arguments)


def _guarded(arguments: argparse.Namespace) -> int:
    try:
        code = command_module(arguments.command).run(arguments)
        sys.stdout.flush()
    except ERRORS as error:
        return _show(error)
    except KeyboardInterrupt:
        print("pybuild: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Nobody reads: that is no error. The descriptor is given away so that the interpreter's last flush
        # succeeds.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _show(_host_error(error))
    return int(code or 0)


def _host_error(error: OSError) -> Exception:
    """Return what an operating system error that nobody foresaw means to a user."""
    import errno

    from builder.errors import HostError
    from cache.errors import StoreFull

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"no space left: {error}", hint="`pybuild prune` frees what nothing uses")
    return HostError(str(error), code="host/os")


def _show(error: Exception) -> int:
    from builder.excerpts import exit_code, render_error

    print(render_error(error), file=sys.stderr)
    return exit_code(error)
