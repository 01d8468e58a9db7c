"""Read images into the store from what `pybuild save`, docker, podman, skopeo or BuildKit wrote.

FILE is a Docker archive, an OCI archive (both may be compressed) or the directory of an OCI layout. The
images get the names that they bear in it.
"""

from __future__ import annotations

import argparse
import sys

from builder.errors import UsageError
from builder.options import platform as platform_of
from builder.session import open_session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="the archive (default: standard input)")
    parser.add_argument("-i", "--input", metavar="FILE", help="the same, as docker has it")
    parser.add_argument(
        "--platform", metavar="OS/ARCH", help="of an image for several platforms (default: this machine's)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids alone")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.bases.base import Surroundings
    from builder.load import STDIN, load
    from cache.oci.reference import Reference

    if args.file is not None and args.input is not None:
        raise UsageError("the archive is given twice", code="usage/arguments")
    source = args.file or args.input or STDIN
    with open_session(args) as session:
        platform = platform_of(args, session.config)
        with session.display("auto" if sys.stderr.isatty() and not args.quiet else "quiet") as display:
            around = Surroundings(session.store, display.emit, session.executor, session.registries())
            loaded = load(around, source, platform)
    for image in loaded:
        if args.quiet or not image.names:
            print(image.image_id if args.quiet else f"Loaded image ID: {image.image_id}")
        else:
            for name in image.names:
                print(f"Loaded image: {Reference.parse(name).familiar}")
    return 0
