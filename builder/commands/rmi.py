"""Remove names of images, and images that have none left.

The layers stay as cache, until `pybuild prune` takes those that nothing uses.
"""

from __future__ import annotations

import argparse

from builder.errors import BuildError, UsageError
from builder.lookup import StoredImage, familiar, find_image
from builder.session import open_session
from cache.oci.reference import Reference
from cache.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("image", nargs="+", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument(
        "-f", "--force", action="store_true", help="remove an image by its id with all of its names"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    code = 0
    with open_session(args) as session:
        for text in args.image:
            try:
                _remove(session.store, text, find_image(session.store, text), force=args.force)
            except BuildError as error:
                from builder.excerpts import exit_code, render_error

                print(render_error(error))
                code = exit_code(error)
    return code


def _remove(store: Store, text: str, image: StoredImage, *, force: bool) -> None:
    _refuse_in_use(store, image)
    if _is_id(image, text):
        if len(image.names) > 1 and not force:
            raise UsageError(
                f"image {text} has {len(image.names)} names: {', '.join(image.names)}",
                code="image/names",
                hint="remove the names one by one, or use --force",
            )
        store.images.remove(image.image_id)
        for name in image.names:
            print(f"Untagged: {name}")
        print(f"Deleted: {image.image_id}")
        return
    store.images.untag(text)
    print(f"Untagged: {familiar(str(Reference.parse(text)))}")
    if not store.images.names_of(image.image_id):
        store.images.remove(image.image_id)
        print(f"Deleted: {image.image_id}")


def _is_id(image: StoredImage, text: str) -> bool:
    try:
        named = Reference.parse(text).familiar in image.names
    except Exception:
        named = False
    return not named and image.image_id.hex.startswith(text.removeprefix("sha256:"))


def _refuse_in_use(store: Store, image: StoredImage) -> None:
    for container in store.containers.all():
        if container.image == image.image_id and len(image.names) < 2:
            raise UsageError(
                f"container {container.name or container.id[:12]} stands on the image",
                code="image/in-use",
                hint=f"pybuild rm {container.name or container.id[:12]}",
            )
