"""Write images to an archive that `pybuild load`, docker, podman and skopeo read.

With --format oci the archive is an OCI layout in a tar; the default is Docker's own form.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.lookup import familiar, find_image, find_images
from builder.options import only_platform
from builder.session import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.exporters.base import Group
    from cache.oci.digest import Digest
    from cache.oci.platform import Platform
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
    parser.add_argument(
        "--platform", metavar="OS/ARCH", help="of an image for several platforms (default: all)"
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
        groups = _groups(session.store, args.image, only_platform(args.platform))
        if kind == "docker":
            _refuse_several(groups)
        quiet = args.quiet or not sys.stderr.isatty()
        with session.display("quiet" if quiet else "auto") as display:
            export_several(groups, spec, session.store, display.emit)
    return 0


def _groups(store: Store, texts: Sequence[str], platform: Platform | None) -> list[Group]:
    """Return each image that is meant once. It goes under the names given; given by its id, under all of
    its own.
    """
    from builder.exporters.base import Source

    names: dict[tuple[Digest, ...], dict[str, None]] = {}
    for text in texts:
        found = find_images(store, text) if platform is None else (find_image(store, text, platform),)
        name = familiar(text)
        own = [name] if name in found[0].names else found[0].names
        names.setdefault(tuple(each.image_id for each in found), {}).update(dict.fromkeys(own))
    return [[Source.load(store, each, given) for each in group] for group, given in names.items()]


def _refuse_several(groups: Sequence[Group]) -> None:
    for group in groups:
        if len(group) > 1:
            shown = familiar(group[0].names[0]) if group[0].names else "the image"
            raise UsageError(
                f"{shown} is for {len(group)} platforms, and a Docker archive holds one",
                code="usage/output",
                hint="--format oci holds all; or say which one, with --platform",
            )
