"""Make an image of a stopped container: what it wrote becomes a layer on top of its image."""

from __future__ import annotations

import argparse
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.epoch import find_epoch
from builder.errors import UsageError
from builder.image import HistoryEntry, assemble
from builder.lookup import read_image
from builder.runningcontainers import find_container
from builder.session import image_name, open_session
from cache.oci.digest import ChainID, Digest

if TYPE_CHECKING:
    from cache.containers import Container
    from cache.layers import Layer
    from cache.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("container", metavar="CONTAINER", help="a name, an id, or the start of one")
    parser.add_argument("name", nargs="?", metavar="NAME[:TAG]", help="name the image")
    parser.add_argument("-m", "--message", metavar="TEXT", default="", help="what the history says")
    parser.add_argument("-a", "--author", metavar="TEXT", help="who made it")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    with open_session(args) as session:
        store = session.store
        container = find_container(store.containers, args.container)
        if store.containers.is_running(container.id):
            raise UsageError(
                f"container {args.container} is running", code="container/running", hint="stop it first"
            )
        name = image_name(args.name) if args.name else None
        image_id = commit(store, container, args.message, args.author)
        store.sync()
        if name is not None:
            store.images.tag(name, image_id)
    print(image_id)
    return 0


def commit(store: Store, container: Container, message: str, author: str | None = None) -> Digest:
    """Add the container's upper as a layer to its image; return the new image's id. The container stays
    as it is.
    """
    base = read_image(store, Digest(container.image))
    epoch = find_epoch("clamp", None).seconds
    layer = _layer(store, container, epoch)
    created = epoch if epoch is not None else int(time.time())
    line = message or " ".join(container.command)
    config = assemble(
        base.config,
        base.config,
        history=[HistoryEntry(line, created, empty_layer=False)],
        diff_ids=[layer.diff_id],
        created=created,
    )
    if author is not None:
        config = replace(config, author=author)
    image_id = store.images.put(config.to_json())
    # What `diff` compares it with, if nothing else is named.
    store.memo.put("base", image_id, container.chain_id.encode())
    return image_id


def _layer(store: Store, container: Container, epoch: int | None) -> Layer:
    """Publish a copy of the upper: the container keeps its own, and may be run on."""
    from cache.changeset import measure, unpack
    from cache.idlemarks import Below

    with store.stage() as staging:
        read_end, write_end = os.pipe()
        writer = threading.Thread(
            target=_write, args=(store.containers.upper(container.id), write_end), daemon=True
        )
        with open(read_end, "rb") as tar:
            writer.start()
            unpack(tar, staging.upper)
        writer.join()
        parent = ChainID(container.chain_id) if container.chain_id else None
        below = Below(lambda: store.layers.lowerdirs(parent) if parent else ())
        try:
            changeset = measure(staging.upper, clamp=epoch, below=below)
        finally:
            below.close()
        return store.layers.publish(parent, staging, changeset)


def _write(upper: str, fd: int) -> None:
    from cache.changeset import write_tar

    with open(fd, "wb") as out:
        write_tar(upper, out)
