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

from builder.errors import BuildError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from grammar.ast import Include, Recipe
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
    checker = Checker(skip, experimental, args.context)
    found = [each for path in recipe_paths(args.recipes) for each in checker.check(path)]
    if args.format == "json":
        print(as_json(found))
    elif args.format == "sarif":
        from builder.version import VERSION

        print(as_sarif(found, VERSION))
    elif found:
        print(as_text(found, checker.sources))
    failed = args.fail_level != "none" and any(at_least(each.severity, args.fail_level) for each in found)
    return 1 if failed else 0


class Checker:
    """Checks recipes, and what they include: that once."""

    def __init__(self, skip: frozenset[str], experimental: frozenset[str], context: str | None) -> None:
        from builder.recipes import RecipeLoader

        self._skip = skip
        self._experimental = experimental
        self._context = context
        self._loader = RecipeLoader(None)
        self._done: set[str] = set()
        self.sources: list[Source] = []

    def check(self, path: str, data: bytes | None = None) -> list[Diagnostic]:
        """Return what is wrong with a file, then with those that it includes. `data` is what it holds, if
        that is not what is on disk. Raises UsageError."""
        return self._check(path, read_text(path) if data is None else data, None, {})

    def _check(
        self, path: str, data: bytes, fragment: bool | None, above: dict[str, str]
    ) -> list[Diagnostic]:
        from grammar.diagnostics import Diagnostic
        from grammar.errors import RecipeError
        from grammar.lint import Options, lint
        from grammar.parser import decode
        from grammar.recover import is_fragment
        from grammar.source import Span

        identity = os.path.realpath(path)
        if above and identity in self._done:
            return []
        self._done.add(identity)
        try:
            source = decode(path, data)
        except RecipeError as error:
            span = error.span or Span(path, 1, 1, 1, 2)
            return [Diagnostic(error.code, "error", error.message, span, error.hint)]
        self.sources.append(source)
        if fragment is None:
            fragment = is_fragment(source)
        options = Options(self._skip, self._experimental, _ignored(path, self._context), self._link)
        found = [*lint(source, options, fragment=fragment)]
        found += self._included(source, fragment, {**above, identity: path})
        own = [each for each in found if each.span.file == path]
        others = [each for each in found if each.span.file != path]
        return sorted(own, key=lambda each: (each.span.line, each.span.column)) + others

    def _link(self, recipe: Recipe) -> Recipe:
        """Fill INCLUDEs, or none of them: what is wrong with one is told where it stands."""
        from grammar.errors import RecipeError

        try:
            return self._loader.link(recipe)
        except (RecipeError, BuildError):
            return recipe

    def _included(self, source: Source, fragment: bool, above: dict[str, str]) -> list[Diagnostic]:
        """Return what is wrong with the INCLUDEs of `source`, and with the files that these name. `above` are
        the files that include it, and itself: identity and path."""
        if "INCLUDE" not in source.text.upper():
            return []
        from grammar.ast import Include
        from grammar.recover import read

        recipe = read(source, fragment=fragment).recipe
        found: list[Diagnostic] = []
        for stage in recipe.stages if recipe is not None else ():
            for each in stage.instructions:
                if recipe is not None and isinstance(each, Include):
                    found += self._fragment(each, source.name, recipe.directives.escape, above)
        return found

    def _fragment(
        self, include: Include, includer: str, escape: str, above: dict[str, str]
    ) -> list[Diagnostic]:
        from builder.privatefiles import is_private
        from builder.recipes import fragment_path, private, read_fragment
        from grammar.diagnostics import Diagnostic
        from grammar.errors import RecipeError
        from grammar.includes import check_arguments, path_of, refuse_cycle
        from grammar.parser import decode, parse_fragment

        try:
            path = fragment_path(includer, path_of(include, escape))
            refuse_cycle(include, path, os.path.realpath(path), above)
            data = read_fragment(path)
        except (RecipeError, BuildError) as error:
            span = error.span or include.path.span
            return [Diagnostic(error.code, "error", error.message, span, error.hint)]
        found = self._check(path, data, True, above)
        if found and is_private(path, os.path.dirname(os.path.abspath(next(iter(above), includer)))):
            refused = private(path)
            return [Diagnostic(refused.code, "error", refused.message, include.path.span, refused.hint)]
        try:
            fragment = parse_fragment(decode(path, data))
        except RecipeError:
            return found
        try:
            check_arguments(include, fragment, path)
        except RecipeError as error:
            found.append(
                Diagnostic(error.code, "error", error.message, error.span or include.span, error.hint)
            )
        return found


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
