"""Give an image another name."""

from __future__ import annotations

import argparse

from builder.lookup import find_image
from builder.session import image_name, open_session


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("image", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument("name", nargs="+", metavar="NAME[:TAG]", help="the new name")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    with open_session(args) as session:
        image = find_image(session.store, args.image)
        for name in [image_name(name) for name in args.name]:
            session.store.images.tag(name, image.named_id)
    return 0
