"""Writing begins before the sync, loses no error, and is over when the store is closed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from cache.store import Store
from cache.writeback import Room
from tests.cache.scenes import ROOT, add_layer


def writers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "write-back"]


def test_much_is_what_a_disk_takes_time_for(tmp_path: Path) -> None:
    before = Room(1 << 30, 1 << 20)
    assert not before.is_much_more_than(before)
    assert not before.is_much_more_than(Room((1 << 30) - 1000, (1 << 20) - 10))
    assert before.is_much_more_than(Room((1 << 30) - (16 << 20), 1 << 20))
    assert before.is_much_more_than(Room(1 << 30, (1 << 20) - 2000))
    assert not Room.of(str(tmp_path / "nowhere")).is_much_more_than(Room.of(str(tmp_path)))


def test_it_is_over_when_the_store_is_closed_and_a_sync_makes_sure_of_the_rest(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "store")) as store:
        layer = add_layer(store, None, {"file": os.urandom(1 << 20)})
        store.write_back.begin()
        store.write_back.begin()
        assert len(writers()) <= 1
        store.sync()
        assert writers() == []
        store.write_back.begin()
    assert writers() == []
    with Store.open(str(tmp_path / "store")) as store:
        assert store.layers.is_whole(layer)
        with open(f"{store.root}/overlay2/{layer.cache_id}/committed") as file:
            assert file.read() == "synced"


def test_an_error_of_the_disk_is_told_by_the_sync_that_follows(tmp_path: Path) -> None:
    """A file in which the store's file system lies, on a disk that has no room for it."""
    script = """
import os, sys
from cache.errors import StoreError
from cache.store import Store
from tests.cache.scenes import add_layer
with Store.open("inner/store") as store:
    add_layer(store, None, {"file": os.urandom(24 << 20)})
    store.write_back.begin()
    try:
        store.sync()
    except StoreError as error:
        print("told", error.code)
"""
    (tmp_path / "outer").mkdir()
    (tmp_path / "inner").mkdir()
    shell = (
        "mount -t tmpfs -o size=8m outer outer; truncate -s 64m outer/image; "
        "mkfs.ext4 -q -O ^has_journal outer/image;"
        ' mount -o loop outer/image inner; "$0" -c "$1"; umount inner'
    )
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-uc", shell, sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("told store/"), done.stderr
