"""The console script. Kept small: what a cached build does not need is not imported here."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line; return the exit code (docs/errors.md)."""
    argv = sys.argv[1:]
    _fill_standard_streams()
    try:
        from builder.direct import attempt

        done = attempt(argv)
        if done is not None:
            return done
        from builder.cli import run
    except KeyboardInterrupt:  # before there is anything to end
        return 130
    return run(argv)


def _fill_standard_streams() -> None:
    """Open /dev/null in place of standard streams that are closed: what is opened next must not be taken
    for one.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(fd)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(fd, "r" if fd == 0 else "w", encoding="utf-8", closefd=False))


if __name__ == "__main__":
    sys.exit(main())
