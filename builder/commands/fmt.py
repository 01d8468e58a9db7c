"""Bring recipes into their usual form, in place.

RECIPE is a file, a directory with a Dockerfile, or - for standard input, which goes to standard output;
without one, it is looked for as `pybuild build` does. What a recipe means stays the same, and its comments
stay. If one of the recipes cannot be read, none is written. Neither root, network nor a store is needed.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="recipes, directories, or - for stdin")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if a recipe is not in its usual form"
    )
    parser.add_argument("--diff", action="store_true", help="write nothing; print what would change")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.commands.check import recipe_paths

    done = [(path, *_formatted(path)) for path in recipe_paths(args.recipes)]
    changed = [(path, before, after) for path, before, after in done if before != after]
    if args.diff:
        for path, before, after in changed:
            sys.stdout.writelines(_difference(path, before, after))
    if args.check:
        for path, _, _ in changed:
            print(f"{path}: not in its usual form", file=sys.stderr)
        return 1 if changed else 0
    if args.diff:
        return 0
    for path, before, after in done:
        if path == "-":
            sys.stdout.write(after)
        elif before != after:
            _replace(path, after)
            print(path)
    return 0


def _formatted(path: str) -> tuple[str, str]:
    """Return the text of a recipe, and its usual form. Raises RecipeError, UsageError."""
    from builder.commands.check import read_text
    from grammar.errors import RecipeError
    from grammar.format import format_source
    from grammar.parser import decode

    source = decode(path, read_text(path))
    try:
        return source.text, format_source(source)
    except RecipeError as error:
        error.source = source  # type: ignore[attr-defined]
        raise


def _difference(path: str, before: str, after: str) -> Iterator[str]:
    from difflib import unified_diff

    old, new = (text.splitlines(keepends=True) for text in (before, after))
    for line in unified_diff(old, new, path, path + " (formatted)"):
        yield line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"


def _replace(path: str, text: str) -> None:
    """Write a file whole or not at all, with the mode that it has; a symbolic link stays one."""
    path = os.path.realpath(path)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        status = os.stat(path)
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            file.write(text)
            os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
            if os.geteuid() == 0:
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", code="usage/write") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
