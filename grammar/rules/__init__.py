"""The linter's rules: a function for each, by name. docs/rules/ has a page for each."""

from __future__ import annotations

import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from grammar.rules.rule import Rule


@functools.cache
def all_rules() -> dict[str, Rule]:
    """Return every rule by its name, in the order of the names."""
    from grammar.rules import apt, bases, config, files, misspelt, packages, scripts, stages, style, variables
    from grammar.rules.rule import Rule

    found: dict[str, Rule] = {}
    for module in (apt, bases, config, files, misspelt, packages, scripts, stages, style, variables):
        for value in vars(module).values():
            if isinstance(value, Rule):
                found[value.name] = value
    return dict(sorted(found.items()))
