"""Show the files that differ between two images, or an image and its base: A added, C changed, D deleted.

With one IMAGE, it is compared with the base that its recipe stands on. A container's name or id in its place
shows what the container wrote.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from builder.difference import Difference, differences
from builder.errors import UsageError
from builder.lookup import StoredImage, find_image
from builder.session import open_session
from builder.tree import Tree

if TYPE_CHECKING:
    from cache.containers import Container
    from cache.oci.digest import ChainID
    from cache.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("image", metavar="IMAGE", help="an image, or a container")
    parser.add_argument(
        "other", nargs="?", metavar="IMAGE", help="what it is compared with (default: its base)"
    )
    parser.add_argument("--times", action="store_true", help="other modification times count as changes too")
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    with open_session(args) as session:
        old, new = _trees(session.store, args)
        try:
            found = differences(old, new, times=args.times)
            if args.json:
                print(json.dumps([asdict(one) for one in found], indent=2))
            else:
                for one in found:
                    print(_line(one))
        finally:
            old.close()
            new.close()
    return 0


def open_chain(store: Store, chain_id: ChainID | None, upper: str | None = None) -> Tree:
    """Return a root filesystem, with the upper of a container on top, as a read-only tree."""
    from builder.overlay import Overlay, detached

    lower = store.layers.lowerdirs(chain_id) if chain_id is not None else ()
    if upper is not None:
        lower = (upper, *lower)
    if not lower:
        with store.stage() as staging:
            fd = os.open(staging.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return Tree(fd, name="nothing")
    return Tree(detached(Overlay(lower)), name="the image")


def _trees(store: Store, args: argparse.Namespace) -> tuple[Tree, Tree]:
    container = None if args.other else store.containers.find(args.image)
    if container is not None:
        return _container_trees(store, container)
    image = find_image(store, args.image)
    if args.other:
        # As with diff(1): what has to be done to the first to get the second.
        other = find_image(store, args.other)
        return open_chain(store, image.chain_id), open_chain(store, other.chain_id)
    return open_chain(store, _base_of(store, image)), open_chain(store, image.chain_id)


def _container_trees(store: Store, container: Container) -> tuple[Tree, Tree]:
    from cache.oci.digest import ChainID

    chain_id = ChainID(container.chain_id) if container.chain_id else None
    upper = store.containers.upper(container.id)
    return open_chain(store, chain_id), open_chain(store, chain_id, upper)


def _base_of(store: Store, image: StoredImage) -> ChainID | None:
    from cache.oci.digest import ChainID

    known = store.memo.get("base", image.image_id)
    if known is None:
        raise UsageError(
            f"it is not known what {args_name(image)} stands on: it was not built here",
            code="image/no-base",
            hint="name the image to compare it with",
        )
    return ChainID(known.decode()) if known else None


def args_name(image: StoredImage) -> str:
    """Return what a message calls the image."""
    return image.names[0] if image.names else image.image_id


def _line(one: Difference) -> str:
    from builder.progress.printable import printable

    return f"{one.kind} {printable(one.path)}" + (f"  ({printable(one.how)})" if one.how else "")
