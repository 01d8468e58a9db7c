"""Diagnostics: what `pybuild check` says, and the page that tells more about each."""

from __future__ import annotations

import os
import sys

from grammar.diagnostics import Diagnostic
from grammar.errors import RecipeError
from grammar.lint import lint
from grammar.parser import decode
from grammar.source import Source, Span

DEPRECATED = frozenset(("MaintainerDeprecated", "LegacyKeyValueFormat"))
"""Rules about what is out of date: editors strike it through."""


def problems(source: Source) -> tuple[Diagnostic, ...]:
    """Return everything that is wrong with a recipe, in the order of the places."""
    if "\0" not in source.text:
        return lint(source)
    try:
        decode(source.name, source.text.encode("utf-8", "replace"))
    except RecipeError as error:
        span = error.span or Span(source.name, 1, 1, 1, 2)
        return (Diagnostic(error.code, "error", error.message, span, error.hint),)
    raise AssertionError("a NUL is no text")


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
