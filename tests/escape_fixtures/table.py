"""The suite as a table, for docs/security.md."""

from __future__ import annotations

from tests.escape_fixtures.suite import GROUPS

BEGIN, END = "<!-- The escape suite: begin -->\n", "<!-- The escape suite: end -->\n"


def render() -> str:
    """Return all cases, by kind. Those that are others by another form have no row of their own."""
    lines: list[str] = []
    for group in GROUPS:
        lines += [
            f"### {group.title}",
            "",
            "| case | what is tried | what happens instead |",
            "|---|---|---|",
        ]
        lines += [
            f"| `{case.name}` | {case.tried} | {case.instead} |"
            for case in group.cases
            if case.tried and not case.heavy
        ]
        lines.append("")
    return "\n".join(lines)
