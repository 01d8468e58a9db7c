"""Run all cases of the escape suite, those that take long, too: `tests/campaigns/escapes.py [NAME ...]`.

It needs 10 GB of disk below $TMPDIR, and some ten minutes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.escape_fixtures.arena import Arena
from tests.escape_fixtures.checks import forget, try_case
from tests.escape_fixtures.place import Place
from tests.escape_fixtures.suite import CASES

PATIENCE = 3600


def main(names: list[str]) -> int:
    """Run the cases of these names, or all; return how many failed."""
    failed = 0
    with tempfile.TemporaryDirectory(
        prefix="escapes-", dir=os.environ.get("TMPDIR", "/var/tmp")
    ) as directory:
        arena = Arena(directory, PATIENCE)
        for case in CASES:
            if names and case.name not in names:
                continue
            place = Place(f"{directory}/{case.name}")
            begun = time.monotonic()
            try:
                try_case(case, arena, place)
                print(f"{case.name}: nothing escaped, {time.monotonic() - begun:.1f}s", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"{case.name}: {error}", flush=True)
            finally:
                forget(place)
        arena.close()
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) != 0)
