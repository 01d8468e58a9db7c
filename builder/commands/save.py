"""Write images to an archive that `pybuild load`, docker, podman and skopeo read.

With --format oci the archive is an OCI layout in a tar; the default is Docker's own form.
"""

from __future__ import annotations

import argparse
import os
import sys

from builder.errors import UsageError
from builder.lookup import find_image
from builder.session import open_session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("image", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE (default: standard output)")
    parser.add_argument(
        "--format", choices=("docker", "oci"), default="docker", help="docker (default) or oci"
    )
    parser.add_argument("--compression", choices=("gzip", "zstd", "none"), help="of an oci archive's layers")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.exporters import export_all

    if args.output is None and os.isatty(1):
        raise UsageError(
            "an archive does not go to a terminal", code="usage/terminal", hint="use --output FILE"
        )
    spec = f'type={args.format},"dest={args.output or "-"}"'
    if args.compression is not None:
        if args.format == "docker":
            raise UsageError("--compression goes with --format oci", code="usage/arguments")
        spec += f",compression={args.compression}"
    with open_session(args) as session:
        image = find_image(session.store, args.image)
        with session.display("quiet" if not sys.stderr.isatty() else "auto") as display:
            export_all(session.store, image.image_id, image.names, [spec], session.config, display.emit)
    return 0
