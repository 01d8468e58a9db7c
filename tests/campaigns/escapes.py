"""Run the escape suite in every way to build, with the cases that take long: `tests/campaigns/escapes.py`.

How each case ended goes to tests/golden/escapes.json, and with it into the table of docs/security.md. It
needs 10 GB of disk below $TMPDIR, and an hour.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.escape_fixtures.arena import Arena
from tests.escape_fixtures.case import Case
from tests.escape_fixtures.checks import forget, try_case
from tests.escape_fixtures.place import Place
from tests.escape_fixtures.suite import CASES
from tests.escape_fixtures.table import with_table
from tests.escape_fixtures.ways import WAYS, Results, Way, read_results, write_results

PATIENCE = 3600
_PAGE = os.path.join(sys.path[0], "docs/security.md")


def main(words: list[str]) -> int:
    """Run the cases in every way that is asked for; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases (default: all)")
    parser.add_argument("--way", action="append", choices=[way.name for way in WAYS], help="a column")
    parser.add_argument("--light", action="store_true", help="none that takes gigabytes or minutes")
    given = parser.parse_args(words)
    cases = [
        case
        for case in CASES
        if case.name in (given.names or (case.name,)) and not (given.light and case.heavy)
    ]
    failed, results = 0, read_results()
    for way in WAYS:
        if way.name in (given.way or (way.name,)):
            failed += _all(way, cases, results)
    results = {case.name: results[case.name] for case in CASES if case.name in results}
    write_results(results)
    with open(_PAGE, "r+", encoding="utf-8") as file:
        text = with_table(file.read(), results)
        file.seek(0)
        file.truncate()
        file.write(text)
    return failed


def _all(way: Way, cases: list[Case], results: Results) -> int:
    failed = 0
    with tempfile.TemporaryDirectory(
        prefix="escapes-", dir=os.environ.get("TMPDIR", "/var/tmp")
    ) as directory:
        arena = Arena(directory, PATIENCE, way)
        for case in cases:
            place = Place(f"{directory}/{case.name}")
            begun = time.monotonic()
            try:
                ended = try_case(case, arena, place)
                results.setdefault(case.name, {})[way.name] = ended
                print(f"{way.name}: {case.name}: {ended}, {time.monotonic() - begun:.1f}s", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"{way.name}: {case.name}: FAULT: {str(error)[-1500:]}", flush=True)
            finally:
                forget(place)
        arena.close()
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) != 0)
