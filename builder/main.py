"""The console script. Kept small: what a cached build does not need is not imported here."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; return the exit code (docs/errors.md)."""
    from builder.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
