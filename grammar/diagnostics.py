"""What the linter says of a recipe."""

from __future__ import annotations

from grammar.node import Node
from grammar.source import Span

SEVERITIES = ("error", "warning", "info")
"""From the worst. An error does not build; a warning is most likely a mistake; an info is advice."""


class Diagnostic(Node):
    """One finding. `rule` is the name of a rule (docs/rules), or the code of an error (docs/errors.md)."""

    rule: str
    severity: str
    message: str
    span: Span
    hint: str | None = None


def at_least(severity: str, level: str) -> bool:
    """Return whether `severity` is `level` or worse."""
    return SEVERITIES.index(severity) <= SEVERITIES.index(level)
