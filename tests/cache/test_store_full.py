"""A full disk: one clear error, a sound store, and a prune that makes room."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cache.scenes import ROOT

FILL = """
import os, sys
from cache.changeset import measure
from cache.errors import StoreError, StoreFull
from cache.gc import prune
from cache.oci.digest import ChainID
from cache.store import Store
from tests.cache.scenes import add_chain, add_image, add_record

root = sys.argv[1] + "/store"
with Store.open(root) as store:
    base = add_chain(store, b"base")
    image = add_image(store, base, "app")

# Build until nothing fits, from several sides.
with Store.open(root) as store:
    parent, number = base[0].chain_id, 0
    while True:
        number += 1
        try:
            with store.stage() as staging:
                try:
                    with open(staging.upper + "/file", "wb") as file:
                        file.write(os.urandom(8000))
                except OSError:
                    break  # a step's own trouble
                layer = store.layers.publish(parent, staging, measure(staging.upper, clamp=None))
            parent = layer.chain_id
            add_record(store, layer.chain_id, layer)
        except StoreFull as error:
            print(error.code, "prune" in error.hint)
            break
        assert number < 10000
    big = os.urandom(1 << 26)
    for put in (lambda: store.blobs.put(big), lambda: store.memo.put("kind", "key", big)):
        try:
            put()
        except StoreFull as error:
            print(error.code, "prune" in error.hint)

# To the brim.
try:
    with open(sys.argv[1] + "/brim", "wb", buffering=0) as file:
        while file.write(bytes(512)):
            pass
except OSError as error:
    pass

# What is published is whole, and can be used.
with Store.open(root) as store:
    assert os.listdir(root + "/tmp") == [], os.listdir(root + "/tmp")
    entries = os.listdir(root + "/layerdb/sha256")
    assert len(entries) >= number - 1, (len(entries), number)
    for name in entries:
        assert store.layers.get(ChainID("sha256:" + name)) is not None
    try:
        for record in store.records:
            assert store.layers.get(record.chain_id) is not None
        assert store.images.resolve("app") == image
        for name in entries:
            store.layers.verify(ChainID("sha256:" + name))
    except StoreFull as error:  # the database may need some room just to be read
        print(error.code, "prune" in error.hint)

# Then a prune makes room, and all is well.
with Store.open(root) as store:
    report = prune(store)
    assert report.freed >= 8000 * (number - 1), (report.freed, number)
    assert [each.chain_id for each in store.layers.all()] == [base[0].chain_id]
with Store.open(root) as store:
    assert [record.key for record in store.records] == []
    layers = add_chain(store, b"fresh", b"fresher", parent=base[0].chain_id)
    add_image(store, base + layers, "app:2")
    assert store.warnings == []
    store.layers.verify(layers[1].chain_id)
print("sound", number)
"""


def fill(tmp_path: Path, mount: str) -> list[str]:
    """Run FILL on a file system of its own, which goes with the mount namespace, whatever happens in it."""
    (tmp_path / "mount").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", f'{mount}; exec "$0" -c "$1" mount', sys.executable, FILL],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "mount",
    [
        "mount -t tmpfs -o size=2m none mount",
        "mount -t tmpfs -o size=16m,nr_inodes=600 none mount",
        "truncate -s 6M disk; mkfs.ext4 -qF -m 0 -b 1024 -N 4000 disk; mount -o loop disk mount",
        "truncate -s 8M disk; mkfs.ext4 -qF -m 0 -b 4096 -N 4000 disk; mount -o loop disk mount",
        "truncate -s 16M disk; mkfs.ext4 -qF -m 0 -b 4096 -N 800 disk; mount -o loop disk mount",
    ],
    ids=["tmpfs", "tmpfs, no inodes", "ext4, small blocks", "ext4", "ext4, no inodes"],
)
def test_a_full_disk_is_an_error_with_a_hint_and_the_store_stays_sound(tmp_path: Path, mount: str) -> None:
    *errors, last = fill(tmp_path, mount)
    assert set(errors) == {"store/full True"}
    assert last.startswith("sound") and int(last.split()[1]) > 10
