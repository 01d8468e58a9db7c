"""Diagnostics: what `pybuild check` says, and the page that tells more about each."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from builder.commands.check import Checker
from builder.recipes import fragment_path
from grammar.ast import Include
from grammar.diagnostics import Diagnostic
from grammar.source import Span

if TYPE_CHECKING:
    from builder.lsp.document import Document

DEPRECATED = frozenset(("MaintainerDeprecated", "LegacyKeyValueFormat"))
"""Rules about what is out of date: editors strike it through."""


def problems(document: Document) -> tuple[Diagnostic, ...]:
    """Return everything that is wrong with a recipe, in the order of the places.

    What is wrong with the files that it includes is for them to show, but what stops the build is shown at
    the INCLUDE, too.
    """
    name = document.source.name
    data = document.text.encode("utf-8", "replace")  # half of a surrogate pair becomes a question mark
    found = Checker(frozenset(), frozenset(), None).check(name, data)
    own = [each for each in found if each.span.file == name]
    for each in found:
        if each.span.file != name and each.severity == "error":
            own.append(_at_include(document, each))
    return tuple(sorted(own, key=lambda each: (each.span.line, each.span.column)))


def _at_include(document: Document, found: Diagnostic) -> Diagnostic:
    """Return what is wrong in another file, at the INCLUDE that brings it here; if that cannot be told, at
    the first one."""
    name = document.source.name
    message = f"{os.path.basename(found.span.file)}:{found.span.line}: {found.message}"
    above = [span for span in found.span.chain if span.file == name]
    if above:
        return found.replace(span=above[-1].plain, message=message)
    recipe = document.reading.recipe
    stages = recipe.stages if recipe is not None else ()
    includes = [each for stage in stages for each in stage.instructions if isinstance(each, Include)]
    places = {fragment_path(name, each.path.text): each.path.span for each in reversed(includes)}
    first = includes[0].path.span if includes else Span(name, 1, 1, 1, 2)
    return found.replace(span=places.get(found.span.file, first), message=message)


def page(rule: str, directory: str) -> str | None:
    """Return the path of the page about a rule or an error's code in the documentation at `directory`; None
    if there is none."""
    name = "errors.md" if "/" in rule else os.path.join("rules", f"{rule}.md")
    path = os.path.join(directory, name)
    return path if os.path.isfile(path) else None


def documentation() -> str:
    """Return where the documentation is: beside a checkout, else where the wheel puts it."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    beside = os.path.join(root, "docs")
    if os.path.isfile(os.path.join(beside, "errors.md")):
        return beside
    return os.path.join(sys.prefix, "share", "doc", "pybuild")
