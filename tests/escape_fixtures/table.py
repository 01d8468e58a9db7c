"""The suite as a table, for docs/security.md."""

from __future__ import annotations

from tests.escape_fixtures.suite import GROUPS
from tests.escape_fixtures.ways import WAYS, Results

BEGIN, END = "<!-- The escape suite: begin -->\n", "<!-- The escape suite: end -->\n"


def render(results: Results) -> str:
    """Return all cases, by kind. Those that are others by another form have no row of their own."""
    columns = ["case", "what is tried", "what happens instead", *(way.name for way in WAYS)]
    lines: list[str] = []
    for group in GROUPS:
        lines += [f"### {group.title}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for case in group.cases:
            if case.tried and not case.heavy:
                ends = [_end(results.get(case.name, {}).get(way.name, "")) for way in WAYS]
                lines.append(f"| `{case.name}` | {case.tried} | {case.instead} | {' | '.join(ends)} |")
        lines.append("")
    return "\n".join(lines)


def with_table(text: str, results: Results) -> str:
    """Return the page `text` with the table that it should have."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{render(results)}{END}{after}"


def _end(ended: str) -> str:
    return ", ".join(each if each == "built" else f"`{each}`" for each in ended.split(", ")) if ended else "-"
