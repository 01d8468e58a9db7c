"""The linter: everything that is wrong with a recipe, in one run."""

from __future__ import annotations

import re
from bisect import bisect_right

from grammar.diagnostics import Diagnostic
from grammar.errors import RecipeError
from grammar.node import Node
from grammar.recover import Reading, is_fragment, read
from grammar.rules import all_rules
from grammar.rules.rule import Subject
from grammar.rules.variables import unexpandable
from grammar.source import Source, Span
from grammar.suggest import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from grammar.ast import Recipe

UNKNOWN_RULE = "UnknownRule"
"""The rule about comments that skip a rule that there is none of."""

_SKIP = re.compile(r"#[ \t]*pybuild:[ \t]*skip=([A-Za-z0-9, \t]+)$")


class Options(Node):
    """What to look for. `skip`: rules to leave out; `experimental`: rules to add; `ignored`: whether a path
    of the build context is left out by its ignore file, None if no context is known. `link` fills INCLUDEs,
    as far as what they name can be read; None leaves them as they are."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    ignored: Callable[[str], bool] | None = None
    link: Callable[[Recipe], Recipe] | None = None


class Directive(Node):
    """What `# check=skip=A,B;error=true;experimental=C` says."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False


def lint(
    source: Source, options: Options | None = None, *, fragment: bool | None = None
) -> tuple[Diagnostic, ...]:
    """Return what is wrong with `source`, in the order of the places.

    `fragment` tells whether it is one; if nobody knows, a file called *.rec without any FROM is. The rules
    look at what could be read; those that need to see all of it wait until there are no errors.
    """
    options = options or Options()
    reading = read(source, fragment=is_fragment(source) if fragment is None else fragment)
    directive = parse_directive(reading.recipe.directives.check if reading.recipe else None)
    found = [_error(error, source) for error in reading.errors]
    if reading.recipe is not None:
        found += [_error(error, source) for error in unexpandable(reading.recipe)]
        if options.link is not None:
            reading = reading.replace(recipe=options.link(reading.recipe))
        found += _findings(Subject(reading, options.ignored), options, directive)
    if directive.error:
        found = [each.replace(severity="error") if each.severity == "warning" else each for each in found]
    return tuple(sorted(found, key=_order))


def parse_directive(text: str | None) -> Directive:
    """Return what the `check` directive of a recipe says. What it does not know it leaves to others."""
    given: dict[str, str] = {}
    for part in (text or "").split(";"):
        key, _, value = part.partition("=")
        given[key.strip().lower()] = value.strip()
    return Directive(
        _names(given.get("skip", "")),
        _names(given.get("experimental", "")),
        given.get("error", "").lower() == "true",
    )


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _error(error: RecipeError, source: Source) -> Diagnostic:
    span = error.span or Span(source.name, 1, 1, 1, 2)
    return Diagnostic(error.code, "error", error.message, span, error.hint)


def _findings(subject: Subject, options: Options, directive: Directive) -> Iterator[Diagnostic]:
    skip, experimental = options.skip | directive.skip, options.experimental | directive.experimental
    skipped = _Skips(subject.reading)
    for name, rule in all_rules().items():
        if name in skip or "all" in skip or (rule.whole and subject.reading.errors):
            continue
        if rule.experimental and not {name, "all"} & experimental:
            continue
        for span, message, hint, *severity in rule.check(subject):
            if not skipped.covers(name, span.line):
                yield Diagnostic(name, severity[0] if severity else rule.severity, message, span, hint)
    if UNKNOWN_RULE not in skip and "all" not in skip:
        yield from skipped.unknown()


class _Skips:
    """The comments `# pybuild: skip=RULE,…`. Each is for the instruction right below it."""

    def __init__(self, reading: Reading) -> None:
        self._lines = lines = reading.source.lines
        self._file = reading.source.name
        self._found: list[tuple[int, frozenset[str]]] = []
        """Each comment's line, and the rules in it."""
        self._starts: list[int] = []
        self._skipped: list[tuple[int, set[str]]] = []
        """For the instructions that begin at `_starts`: where they end, and the rules that are skipped
        there.
        """
        for line in reading.lines:
            number = line.first - 1
            skipped: set[str] = set()
            while number and lines[number - 1].lstrip().startswith("#"):
                match = _SKIP.match(lines[number - 1].strip())
                if match:
                    self._found.append((number, _names(match[1])))
                    skipped |= self._found[-1][1]
                number -= 1
            if skipped:
                self._starts.append(line.first)
                self._skipped.append((line.last, skipped))

    def covers(self, rule: str, number: int) -> bool:
        """Whether `rule` is skipped in the line `number`."""
        at = bisect_right(self._starts, number) - 1
        if at < 0:
            return False
        last, names = self._skipped[at]
        return number <= last and not names.isdisjoint((rule, "all"))

    def unknown(self) -> Iterator[Diagnostic]:
        known = [*all_rules(), "all"]
        hints: dict[str, str | None] = {}
        for number, names in self._found:
            for name in sorted(names.difference(known)):
                span = Span(self._file, number, 1, number, len(self._lines[number - 1]) + 1)
                if name not in hints:
                    hints[name] = did_you_mean(name, known)
                yield Diagnostic(
                    UNKNOWN_RULE, "warning", f"there is no rule {name} to skip", span, hints[name]
                )


def _order(found: Diagnostic) -> tuple[int, int, str]:
    return found.span.line, found.span.column, found.rule
