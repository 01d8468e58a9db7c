"""Print the version of pybuild, and with --verbose of what it runs on."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("-v", "--verbose", action="store_true", help="those of Python and the kernel too")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.version import VERSION

    print(f"pybuild {VERSION}")
    if args.verbose:
        import os
        import platform

        kernel = os.uname()
        print(f"Python {platform.python_version()}")
        print(f"{kernel.sysname} {kernel.release} {kernel.machine}")
    return 0
