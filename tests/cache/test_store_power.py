"""A real power cut: the disk as it is at one instant, without what the kernel has not written yet.

The store is on an ext4 on a loop device; a copy of the file behind it is what a machine finds when the power
comes back. The boot id is set by hand, since this machine has not booted meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.cache.scenes import ROOT

BUILD = """
import os, shutil, subprocess, sys
from cache.store import Store
from tests.cache.scenes import add_chain, add_image, add_layer, add_record

store = Store.open("disk/store")
layers = add_chain(store, b"one", os.urandom(3 << 20), b"three")
for layer in layers:
    add_record(store, layer.chain_id, layer)
blob = store.blobs.put(os.urandom(1 << 20))
store.receipts.put("receipt", b"value")
image = add_image(store, layers, "app")  # this syncs, then names
late = add_chain(store, os.urandom(1 << 20), b"five", parent=layers[2].chain_id)
for layer in late:
    add_record(store, layer.chain_id, layer)
late_image = store.images.put(b'{"late":true}')
subprocess.run(["cp", "--sparse=always", "disk.img", "cut.img"], check=True)

subprocess.run(["mount", "-o", "loop", "cut.img", "cut"], check=True)
after = Store("cut/store")
after.boot = "00000000-1111-2222-3333-444444444444"
opened = Store.open("cut/store")
assert opened.warnings == []
for layer in layers:
    assert after.layers.get(layer.chain_id) == layer, layer
    after.layers.verify(layer.chain_id)
    assert after.records.get(layer.chain_id) is not None
assert after.images.resolve("app") == image
assert after.images.get(image)
assert after.receipts.get("receipt") == b"value"
assert after.blobs.read(blob) is not None
for layer in late:
    assert after.layers.get(layer.chain_id) is None, "it may be anything"
    assert after.records.get(layer.chain_id) is None
assert [each.chain_id for each in after.layers.children(layers[1].chain_id)] == [layers[2].chain_id]
assert after.layers.children(layers[2].chain_id) == ()
again = add_chain(after, b"five", parent=layers[2].chain_id)
after.layers.verify(again[0].chain_id)
after.close()
print("sound")
"""


def test_what_a_sync_covered_is_there_after_a_power_cut_and_what_it_did_not_is_not_trusted(
    tmp_path: Path,
) -> None:
    script = (
        "mkdir disk cut; truncate -s 64M disk.img; mkfs.ext4 -qF -b 4096 disk.img;"
        ' mount -o loop disk.img disk; exec "$0" -c "$1"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, sys.executable, BUILD],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("sound\n", 0), done.stderr
