"""Remove names of images, and images that have none left.

The layers stay as cache, until `pybuild prune` takes those that nothing uses.
"""

from __future__ import annotations

import argparse

from builder.errors import UsageError
from builder.lookup import StoredImage, familiar, find_image
from builder.session import open_session
from cache.oci.digest import Digest
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
        every = (*store.images.indexes.all(), *store.images.all())
        for text in [str(each) for each in every] if args.all else args.image:
            if args.all and store.images.resolve(text) is None:
                continue  # it went with its index
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
    deleted = [] if left else _delete(store, image)
    if left:
        store.images.untag(text)
    for each in image.names if name is None else (name,):
        print(f"Untagged: {each}")
    for image_id in deleted:
        print(f"Deleted: {image_id}")


def _delete(store: Store, image: StoredImage) -> list[Digest]:
    """Delete an image with its names; of an index, also those of its images that nothing else needs."""
    if image.index is None:
        _refuse_in_index(store, image)
        _refuse_in_use(store, image.image_id)
        store.images.remove(image.image_id)
        return [image.image_id]
    members = store.images.indexes.images_of(image.index)
    alone = [each for each in dict.fromkeys(members) if not store.images.names_of(each)]
    alone = [each for each in alone if _indexes_with(store, each) == [image.index]]
    for each in alone:
        _refuse_in_use(store, each)
    for name in image.names:
        store.images.untag(name)
    store.images.indexes.remove(image.index)
    for each in alone:
        store.images.remove(each)
    return [image.index, *alone]


def _indexes_with(store: Store, image_id: Digest) -> list[Digest]:
    indexes = store.images.indexes
    return [each for each in indexes.all() if image_id in indexes.images_of(each)]


def _refuse_in_index(store: Store, image: StoredImage) -> None:
    for index in _indexes_with(store, image.image_id):
        known = [familiar(name) for name in store.images.names_of(index)]
        if known:
            raise UsageError(
                f"the image is the one for {image.config.platform} of {known[0]}",
                code="image/in-use",
                hint=f"pybuild rmi {known[0]}",
            )


def _name_of(image: StoredImage, text: str) -> str | None:
    """Return the name that `text` is; None if it means the image by its id."""
    if text in image.names:
        return text
    name = familiar(text)
    return name if name in image.names else None


def _refuse_in_use(store: Store, image_id: Digest) -> None:
    for container in store.containers.all():
        if container.image == image_id:
            known = container.name or container.id[:12]
            raise UsageError(
                f"container {known} stands on the image", code="image/in-use", hint=f"pybuild rm {known}"
            )
