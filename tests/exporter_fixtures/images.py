"""Images made by hand in a store: each layer is a tree (tests/changeset_fixtures/trees.py)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace

from builder.exporters.base import Source
from builder.image import HistoryEntry, assemble
from builder.overlay import Overlay, detached
from cache.changeset import measure
from cache.oci.digest import ChainID
from cache.oci.spec import ContainerConfig, ImageConfig
from cache.store import Store
from tests.changeset_fixtures import trees
from tests.changeset_fixtures.trees import CAPABILITY, Node, Tree, build, directory

EMPTY = ImageConfig(
    "amd64",
    "linux",
    config=ContainerConfig(env=("PATH=/bin",), cmd=("/bin/sh", "-c", "cat /greeting"), working_dir="/"),
)


def add_layer(store: Store, parent: ChainID | None, tree: Tree) -> ChainID:
    """Publish `tree` as the layer on top of `parent`."""
    with store.stage() as staging:
        build(tree, staging.upper)
        return store.layers.publish(parent, staging, measure(staging.upper, clamp=None)).chain_id


def add_image(
    store: Store, layers: Sequence[Tree], names: Sequence[str] = (), config: ImageConfig = EMPTY
) -> Source:
    """Make an image of those layers, the lowest first."""
    chain: ChainID | None = None
    diff_ids = []
    for tree in layers:
        chain = add_layer(store, chain, tree)
        found = store.layers.get(chain)
        assert found is not None
        diff_ids.append(found.diff_id)
    history = [HistoryEntry(f"RUN {number} # pybuild", 1_700_000_000, False) for number in range(len(layers))]
    result = assemble(None, config, history=history, diff_ids=diff_ids, created=1_700_000_000)
    return Source.load(store, store.images.put(result.to_json()), names)


def overlay_snapshot(store: Store, source: Source) -> Tree:
    """What the kernel's overlayfs shows of the image, hard links aside: it does not tell layers apart."""
    with store.stage() as empty:  # overlayfs wants two directories at least
        descriptor = detached(Overlay((*store.layers.lowerdirs(source.layers[-1].chain_id), empty.upper)))
        try:
            return trees.snapshot(f"/proc/self/fd/{descriptor}", marks=False)
        finally:
            os.close(descriptor)


def without_links(tree: Tree) -> Tree:
    """The same tree with every name having its content itself."""
    return {path: replace(node, same=None) for path, node in tree.items()}


def busybox() -> Tree:
    """A root filesystem that can run a shell."""
    path = shutil.which("busybox")
    assert path is not None, "busybox-static is not on this machine"
    with open(path, "rb") as file:
        program = file.read()
    return {
        b"bin": directory(),
        b"bin/busybox": Node("file", 0o755, data=program),
        **{b"bin/" + name: Node("symlink", data=b"busybox") for name in (b"sh", b"cat", b"ls", b"stat")},
        b"dev": directory(),
        b"etc": directory(),
        b"etc/passwd": Node("file", data=b"root:x:0:0:root:/:/bin/sh\n"),
        b"proc": directory(mode=0o555),
        b"sys": directory(mode=0o555),
        b"tmp": directory(mode=0o1777),
        b"greeting": Node("file", data=b"hello from below\n"),
    }


def everything() -> tuple[Tree, ...]:
    """Layers with all that a layer can hold: whiteouts, opaque directories, links, devices, xattrs, odd
    modes."""
    lower = {
        **busybox(),
        b"opt": directory(),
        b"opt/app": directory(uid=1000, gid=1000),
        b"opt/app/old": Node("file", data=b"old" * 1000),
        b"opt/app/kept": Node("file", data=b"kept"),
        b"opt/gone": Node("file"),
        b"replaced": directory(),
        b"replaced/below": Node("file"),
        b"turned": Node("file", data=b"a file that becomes a directory"),
        b"data": Node("file", data=b"0123456789" * 100_000),
        b"data-link": Node("file", data=b"0123456789" * 100_000, same=b"data"),
        b"setuid": Node("file", 0o4755, data=b"#!"),
        b"capable": Node("file", 0o755, data=b"#!", xattrs=(("security.capability", CAPABILITY),)),
        b"noted": Node("file", data=b"x", xattrs=(("user.note", b"binary \0 value"),)),
        b"fifo": Node("fifo"),
        b"null": Node("char", 0o666, device=(1, 3)),
        b"dangling": Node("symlink", data=b"/nowhere/at/all"),
        ("ü" * 60).encode() + b"/": directory(),
    }
    lower.pop(("ü" * 60).encode() + b"/")
    lower[("ü" * 60).encode()] = Node(
        "file", 0o600, 4_000_000_000, 70_000, 1_234_567_890 * 10**9, b"long name"
    )
    middle = {
        b"opt": directory(mode=0o750),
        b"opt/gone": Node("whiteout"),
        b"opt/app": directory(opaque=True),
        b"opt/app/new": Node("file", data=b"new"),
        b"replaced": Node("symlink", data=b"opt"),
        b"turned": directory(mode=0o700),
        b"turned/inside": Node("file", data=b"inside"),
        b"data-link": Node("file", data=b"a copy of its own by now"),
    }
    upper = {
        b"greeting": Node("file", data=b"hello from the top\n"),
        b"opt": directory(mode=0o750),
        b"opt/app": directory(uid=7),
        b"opt/app/new": Node("whiteout"),
        b"opt/app/newest": Node("file", data=b"newest"),
        b"same-a": Node("file", data=b"same"),
        b"same-b": Node("file", data=b"same", same=b"same-a"),
    }
    return lower, middle, upper
