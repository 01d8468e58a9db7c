"""The console script. Kept small: what a cached build does not need is not imported here."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; return the exit code (docs/errors.md)."""
    argv = sys.argv[1:]
    try:
        from builder.direct import attempt

        done = attempt(argv)
        if done is not None:
            return done
        from builder.cli import run
    except KeyboardInterrupt:  # before there is anything to end
        return 130
    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
