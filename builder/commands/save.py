"""Write images to an archive that `pybuild load`, docker, podman and skopeo read.

With --format oci the archive is an OCI layout in a tar; the default is Docker's own form.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.lookup import familiar, find_image
from builder.session import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.exporters.base import Source
    from cache.oci.digest import Digest
    from cache.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("image", nargs="+", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE (default: standard output)")
    parser.add_argument(
        "--format",
        choices=("docker", "oci", "docker-archive", "oci-archive"),
        default="docker",
        metavar="FORMAT",
        help="docker (default) or oci; also as podman has them: docker-archive, oci-archive",
    )
    parser.add_argument(
        "--compression", choices=("gzip", "zstd", "none"), help="of the layers in an oci archive"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.exporters import export_several, parse_outputs

    if args.output is None and os.isatty(1):
        raise UsageError(
            "an archive does not go to a terminal", code="usage/terminal", hint="use --output FILE"
        )
    kind = args.format.removesuffix("-archive")
    dest = (args.output or "-").replace('"', '""')
    text = f'type={kind},"dest={dest}"'
    if args.compression is not None:
        if kind == "docker":
            raise UsageError("--compression goes with --format oci", code="usage/arguments")
        text += f",compression={args.compression}"
    with open_session(args) as session:
        (spec,) = parse_outputs([text], session.config)
        sources = _sources(session.store, args.image)
        quiet = args.quiet or not sys.stderr.isatty()
        with session.display("quiet" if quiet else "auto") as display:
            export_several(sources, spec, session.store, display.emit)
    return 0


def _sources(store: Store, texts: Sequence[str]) -> list[Source]:
    """Return each image that is meant once. It goes under the names given; given by its id, under all of
    its own.
    """
    from builder.exporters.base import Source

    names: dict[Digest, dict[str, None]] = {}
    for text in texts:
        image = find_image(store, text)
        name = familiar(text)
        own = [name] if name in image.names else image.names
        names.setdefault(image.image_id, {}).update(dict.fromkeys(own))
    return [Source.load(store, image_id, given) for image_id, given in names.items()]
