"""Diagnostics as text for people, as JSON, and as SARIF 2.1.0 (OASIS), which code hosts show beside the
lines."""

from __future__ import annotations

from grammar.diagnostics import SEVERITIES, Diagnostic
from grammar.source import Source, excerpt, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_SARIF_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def as_text(found: Sequence[Diagnostic], sources: Iterable[Source]) -> str:
    """Return the diagnostics as people read them, each with its excerpt, and their number at the end. Empty
    if there are none."""
    known = {source.name: (source, source.lines) for source in sources}
    out: list[str] = []
    for each in found:
        span = each.span
        where = f"{printable(span.file)}:{span.line}:{span.column}"
        out.append(f"{where}: {each.severity}: {printable(each.message)} [{each.rule}]")
        source, lines = known.get(span.file, (None, None))
        shown = excerpt(source, span, context=0, lines=lines) if source else ""
        out += [f"    {line}" for line in shown.split("\n") if line]
        if each.hint:
            out.append(f"  hint: {printable(each.hint)}")
    if found:
        counts = {severity: sum(each.severity == severity for each in found) for severity in SEVERITIES}
        words = [_count(number, severity) for severity, number in counts.items() if number]
        out.append(", ".join(words))
    return "\n".join(out)


def _count(number: int, severity: str) -> str:
    return f"{number} {severity}" if number == 1 or severity == "info" else f"{number} {severity}s"


def as_json(found: Sequence[Diagnostic]) -> str:
    """Return the diagnostics as a JSON object, which docs/tools.md describes."""
    import json

    return json.dumps({"version": 1, "diagnostics": [_fields(each) for each in found]}, indent=2)


def _fields(each: Diagnostic) -> dict[str, object]:
    span = each.span
    return {
        "rule": each.rule,
        "severity": each.severity,
        "message": each.message,
        "hint": each.hint,
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def as_sarif(found: Sequence[Diagnostic], version: str) -> str:
    """Return the diagnostics as a SARIF log. `version` is that of pybuild."""
    import json

    from grammar.rules import all_rules

    names = sorted({each.rule for each in found})
    rules: list[dict[str, object]] = []
    for name in names:
        rule = all_rules().get(name)
        summary = rule.summary if rule else name
        rules.append({"id": name, "shortDescription": {"text": summary}})
    driver = {"name": "pybuild", "semanticVersion": version, "rules": rules}
    results = [_result(each, names.index(each.rule)) for each in found]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _result(each: Diagnostic, index: int) -> dict[str, object]:
    from urllib.parse import quote

    span = each.span
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    place = {"artifactLocation": {"uri": quote(span.file)}, "region": region}
    return {
        "ruleId": each.rule,
        "ruleIndex": index,
        "level": _SARIF_LEVELS[each.severity],
        "message": {"text": each.message + (f"\n{each.hint}" if each.hint else "")},
        "locations": [{"physicalLocation": place}],
    }
