"""What the tests of the store begin with: trees, layers made of them, and processes that use a store."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from cache.changeset import measure
from cache.oci.digest import ChainID
from cache.oci.spec import ImageConfig
from cache.records import Record
from cache.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cache.absent import AbsentLayer
    from cache.layers import Layer
    from cache.oci.digest import Digest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OTHER_BOOT = "00000000-1111-2222-3333-444444444444"


def add_layer(
    store: Store, parent: ChainID | None, files: dict[str, bytes], *, signature: bytes | None = None
) -> Layer:
    """Publish a layer of `files` on `parent`."""
    with store.stage() as staging:
        for name, content in files.items():
            path = f"{staging.upper}/{name}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
        changeset = measure(staging.upper, clamp=1_000_000_000)
        return store.layers.publish(parent, staging, changeset, signature=signature)


def add_chain(store: Store, *contents: bytes, parent: ChainID | None = None) -> list[Layer]:
    """Publish a layer for each of `contents`, one on the other; return them, the lowest first."""
    layers: list[Layer] = []
    for content in contents:
        layer = add_layer(store, parent, {"file": content})
        layers.append(layer)
        parent = layer.chain_id
    return layers


def add_record(
    store: Store, key: str, layer: Layer | AbsentLayer, *, line: str = "RUN make", created: int = 1000
) -> Record:
    """Put a record of `layer`."""
    record = Record(
        key=key,
        parent=layer.parent or "",
        diff_id=layer.diff_id,
        chain_id=layer.chain_id,
        size=layer.size,
        seconds=0.5,
        created=created,
        version="1",
        line=line,
        parts=(("parent", layer.parent or ""), ("command", line)),
    )
    store.records.put(record)
    return record


def add_image(store: Store, layers: Sequence[Layer | AbsentLayer], *names: str, author: str = "") -> Digest:
    """Put an image of `layers` under `names`."""
    config = ImageConfig.from_json(
        b'{"architecture":"amd64","os":"linux","author":"%s","rootfs":{"type":"layers","diff_ids":[%s]}}'
        % (author.encode(), b",".join(b'"%s"' % layer.diff_id.encode() for layer in layers))
    )
    image = store.images.put(config.to_json())
    store.sync()
    for name in names:
        store.images.tag(name, image)
    return image


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python process that runs `script`, with pipes to its standard input and output."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )


def stop(process: subprocess.Popen[str]) -> None:
    """End a process of `start`."""
    process.kill()
    process.communicate()


def reboot(root: str) -> None:
    """Make all that the store at `root` has not synced look as if it were of another boot: what a power
    cut spared."""
    for cache_id in os.listdir(f"{root}/overlay2"):
        path = f"{root}/overlay2/{cache_id}/committed"
        if os.path.exists(path):
            with open(path, "r+") as file:
                if file.read() != "synced":
                    file.seek(0)
                    file.write(OTHER_BOOT)
    with Store.open(root) as store:
        for table in ("records", "receipts", "layers"):
            store.database.write(
                lambda c, table=table: c.execute(  # type: ignore[misc]
                    f"UPDATE {table} SET boot_id = ? WHERE boot_id != ''", (OTHER_BOOT,)
                )
            )
