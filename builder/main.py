"""The console script. Kept small: what a cached build does not need is not imported here."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; return the exit code (docs/errors.md)."""
    from builder.direct import attempt

    argv = sys.argv[1:]
    done = attempt(argv)
    if done is not None:
        return done
    from builder.cli import run

    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
