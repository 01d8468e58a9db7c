"""Say everything that is wrong with recipes, and what could be better.

RECIPE is a file, a directory with a Dockerfile, or - for standard input; without one, it is looked for as
`pybuild build` does. Neither root, network nor a store is needed. The rules are told in docs/rules/, and how
to leave some out in docs/tools.md.

Exit code 0: nothing at or above --fail-level was found; 1: something was.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from grammar.diagnostics import Diagnostic
    from grammar.source import Source

FAIL_LEVELS = ("error", "warning", "info", "none")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="recipes, directories, or - for stdin")
    parser.add_argument(
        "--format", choices=("text", "json", "sarif"), default="text", help="how to print (default: text)"
    )
    parser.add_argument(
        "--skip", action="append", default=[], metavar="RULE[,RULE]", help="leave rules out; may be repeated"
    )
    parser.add_argument(
        "--experimental",
        action="append",
        default=[],
        metavar="RULE[,RULE]",
        help="add experimental rules, or all of them",
    )
    parser.add_argument(
        "--fail-level",
        choices=FAIL_LEVELS,
        default="warning",
        help="the least severity that makes the exit code 1 (default: warning)",
    )
    parser.add_argument(
        "--context", metavar="DIR", help="the build context, for rules that look at its ignore file"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from grammar.diagnostics import at_least
    from grammar.reports import as_json, as_sarif, as_text

    skip, experimental = rule_names(args.skip, "--skip"), rule_names(args.experimental, "--experimental")
    found: list[Diagnostic] = []
    sources: list[Source] = []
    for path in recipe_paths(args.recipes):
        found += _check(path, skip, experimental, args.context, sources)
    if args.format == "json":
        print(as_json(found))
    elif args.format == "sarif":
        from builder.version import VERSION

        print(as_sarif(found, VERSION))
    elif found:
        print(as_text(found, sources))
    failed = args.fail_level != "none" and any(at_least(each.severity, args.fail_level) for each in found)
    return 1 if failed else 0


def _check(
    path: str, skip: frozenset[str], experimental: frozenset[str], context: str | None, sources: list[Source]
) -> Sequence[Diagnostic]:
    from grammar.diagnostics import Diagnostic
    from grammar.errors import RecipeError
    from grammar.lint import Options, lint
    from grammar.parser import decode
    from grammar.source import Span

    data = read_text(path)
    try:
        source = decode(path, data)
    except RecipeError as error:
        span = error.span or Span(path, 1, 1, 1, 2)
        return [Diagnostic(error.code, "error", error.message, span, error.hint)]
    sources.append(source)
    return lint(source, Options(skip, experimental, _ignored(path, context)))


def read_text(path: str) -> bytes:
    """Return the bytes of a recipe, or of standard input for `-`. Raises UsageError."""
    from builder.recipes import MAX_BYTES, read_recipe

    if path != "-":
        return read_recipe(path)
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UsageError("what comes from standard input is too large for a recipe", code="recipe/too-large")
    return data


def recipe_paths(given: Sequence[str]) -> list[str]:
    """Return the recipes that the command line means, a directory's Dockerfile in its place. Raises
    UsageError."""
    from builder.commands.build import find_recipe

    found: list[str] = []
    wanted: Sequence[str | None] = given or [None]
    for path in wanted:
        if path is None or os.path.isdir(path):
            asked = argparse.Namespace(recipe=path, context_=None, file=None, context=None)
            path = find_recipe(asked)[0]
        found.append(path)
    return found


def rule_names(given: Sequence[str], option: str) -> frozenset[str]:
    """Return the rules that an option names. Raises UsageError for one that there is not."""
    from grammar.lint import UNKNOWN_RULE
    from grammar.rules import all_rules
    from grammar.suggest import did_you_mean

    names = {name.strip() for text in given for name in text.split(",") if name.strip()}
    known = [*all_rules(), UNKNOWN_RULE, "all"]
    for name in sorted(names.difference(known)):
        raise UsageError(
            f"{option} {name}: there is no such rule", code="usage/rule", hint=did_you_mean(name, known)
        )
    return frozenset(names)


def _ignored(path: str, context: str | None) -> Callable[[str], bool] | None:
    if context is None:
        return None
    from builder.sources import ignore_rules

    return ignore_rules(context, path).ignores
