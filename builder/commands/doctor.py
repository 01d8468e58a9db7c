"""Tell what this host can do, and what is missing, each with the remedy.

Overlay mounts, namespaces and extended attributes are tried in the store's place, and removed again.
Exit code 0: builds can run here; 4: they cannot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import argparse

    from builder.host import Check

_WORDS = {"ok": "ok", "missing": "MISSING", "optional": "absent"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line of `doctor` may hold."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Examine this host; return the exit code."""
    import sys

    from builder.config import load
    from builder.session import store_root

    root = store_root(arguments.root, load(arguments.config).root)
    return report(root, sys.stdout, as_json=arguments.json)


def report(root: str, out: TextIO, *, as_json: bool) -> int:
    """Write about this host, as seen from a store at `root`, to `out`; return the exit code."""
    from builder.host import examine

    checks = list(examine(root))
    able = all(check.status != "missing" for check in checks)
    out.write(_object(checks, able) if as_json else _table(checks, able))
    return 0 if able else 4


def _table(checks: list[Check], able: bool) -> str:
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{_WORDS[check.status]:<8} {check.name:<{width}}  {check.detail}")
        if check.remedy:
            lines.append(f"{'':<8} {'':<{width}}  -> {check.remedy}")
    lines.append("")
    lines.append("Builds can run on this host." if able else "Builds cannot run on this host.")
    return "\n".join(lines) + "\n"


def _object(checks: list[Check], able: bool) -> str:
    import json
    from dataclasses import asdict

    from builder.version import VERSION

    found = {"pybuild": VERSION, "able": able, "checks": [asdict(check) for check in checks]}
    return json.dumps(found, indent=2) + "\n"
