"""Remove names of images, and images that have none left.

The layers stay as cache, until `pybuild prune` takes those that nothing uses.
"""

from __future__ import annotations

import argparse

from builder.errors import UsageError
from builder.lookup import StoredImage, familiar, find_image
from builder.session import open_session
from cache.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("image", nargs="*", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument("-a", "--all", action="store_true", help="all that no container stands on")
    parser.add_argument(
        "-f", "--force", action="store_true", help="remove an image by its id with all of its names"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.cli import ERRORS, show
    from builder.excerpts import exit_code

    if args.all == bool(args.image):
        raise UsageError("name images, or say --all", code="usage/arguments")
    code = 0
    with open_session(args) as session:
        store = session.store
        for text in [str(each) for each in store.images.all()] if args.all else args.image:
            try:
                _remove(store, text, find_image(store, text), force=args.force or args.all)
            except ERRORS as error:
                show(error)
                code = exit_code(error)
    return code


def _remove(store: Store, text: str, image: StoredImage, *, force: bool) -> None:
    name = _name_of(image, text)
    left = set(image.names) - {name} if name else set()
    if name is None and len(image.names) > 1 and not force:
        raise UsageError(
            f"image {text} has {len(image.names)} names: {', '.join(image.names)}",
            code="image/names",
            hint="remove the names one by one, or use --force",
        )
    if not left:
        _refuse_in_use(store, image)
        store.images.remove(image.image_id)
    else:
        store.images.untag(text)
    for each in image.names if name is None else (name,):
        print(f"Untagged: {each}")
    if not left:
        print(f"Deleted: {image.image_id}")


def _name_of(image: StoredImage, text: str) -> str | None:
    """Return the name that `text` is; None if it means the image by its id."""
    if text in image.names:
        return text
    name = familiar(text)
    return name if name in image.names else None


def _refuse_in_use(store: Store, image: StoredImage) -> None:
    for container in store.containers.all():
        if container.image == image.image_id:
            known = container.name or container.id[:12]
            raise UsageError(
                f"container {known} stands on the image", code="image/in-use", hint=f"pybuild rm {known}"
            )
