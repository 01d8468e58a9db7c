"""pybuild.db: records and what else is kept by key, across processes, power cuts and damage."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.database import Database
from cache.errors import StoreCorrupt, StoreError
from cache.locks import Lock
from cache.oci.digest import ChainID, DiffID
from cache.records import Record, decode_parts, encode_parts
from cache.scratch import Scratch
from cache.store import Store
from tests.cache.scenes import OTHER_BOOT, ROOT, add_chain, add_image, add_record, reboot, start

CHAIN = ChainID("sha256:" + "c" * 64)
PUT = """
import sys
from cache.oci.digest import ChainID, DiffID
from cache.records import Record
from cache.store import Store
name = sys.argv[2]
with Store.open(sys.argv[1]) as store:
    for n in range(60):
        d = DiffID("sha256:" + "d" * 64)
        store.records.put(Record(f"{name}-{n}", "", d, ChainID(d), n, 0.1, n, "1", "RUN x", (("a", "b"),)))
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store")) as store:
        yield store


def record(key: str, **changes: object) -> Record:
    values: dict[str, object] = {
        "key": key,
        "parent": "",
        "diff_id": DiffID("sha256:" + "d" * 64),
        "chain_id": CHAIN,
        "size": 1,
        "seconds": 0.25,
        "created": 1000,
        "version": "1",
        "line": "RUN make",
        "parts": (("command", "make"),),
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_was_put(store: Store) -> None:
    put = record("key", diff_id=None, parts=(("command", "make\0\n"), ("file \udcff", "é" * 5000)))
    store.records.put(put)
    got = store.records.get("key", parts=True)
    assert got == put and isinstance(got.chain_id, ChainID)
    assert store.records.get("another") is None


def test_a_hit_does_not_pay_for_the_parts(store: Store) -> None:
    store.records.put(record("key"))
    got = store.records.get("key")
    assert got is not None and got.parts == ()
    assert store.records.get_many(["key", "another"]) == {"key": got}


def test_any_number_of_records_is_got_at_once(store: Store) -> None:
    keys = [f"key-{number}" for number in range(1201)]
    for key in keys[::100]:
        store.records.put(record(key))
    assert sorted(store.records.get_many(keys)) == sorted(keys[::100])


def test_a_later_record_takes_the_place_of_an_earlier_one(store: Store) -> None:
    store.records.put(record("key", size=1))
    store.records.put(record("key", size=2))
    assert [each.size for each in store.records] == [2]


def test_the_nearest_record_is_the_newest_of_the_same_line(store: Store) -> None:
    store.records.put(record("old", created=1000))
    store.records.put(record("new", created=2000, parts=(("command", "make all"),)))
    store.records.put(record("other", created=3000, line="RUN other"))
    nearest = store.records.nearest("RUN make")
    assert nearest is not None and (nearest.key, nearest.parts) == ("new", (("command", "make all"),))
    assert store.records.nearest("RUN nothing") is None


def test_deleted_records_are_gone(store: Store) -> None:
    for key in ("a", "b", "c"):
        store.records.put(record(key))
    assert store.records.delete(["a", "c", "nothing"]) == 2
    assert [each.key for each in store.records] == ["b"]


@given(st.lists(st.tuples(st.text(), st.text())))
def test_parts_survive_their_encoding(parts: list[tuple[str, str]]) -> None:
    assert decode_parts(encode_parts(tuple(parts))) == tuple(parts)


@pytest.mark.parametrize("blob", [b"", b"r5\nab", b"r1 1 1\nabc", b"rx\n", b"znonsense", b"r-1 3\nab"])
def test_parts_that_make_no_sense_are_corrupt_not_wrong(blob: bytes) -> None:
    if blob == b"":
        assert decode_parts(blob) == ()
        return
    with pytest.raises(StoreCorrupt):
        decode_parts(blob)


def test_records_of_several_processes_at_once_all_get_in(store: Store) -> None:
    processes = [start(PUT, store.root, name) for name in ("a", "b", "c")]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert len(list(store.records)) == 180


def test_threads_share_a_store(store: Store) -> None:
    failures: list[Exception] = []

    def use(name: str) -> None:
        try:
            for number in range(30):
                store.records.put(record(f"{name}-{number}"))
                assert store.records.get(f"{name}-{number}") is not None
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and len(list(store.records)) == 120


def test_a_record_that_no_sync_covered_is_a_miss_after_a_power_cut(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    with Store.open(root) as store:
        (synced,) = add_chain(store, b"one")
        add_record(store, "synced", synced)
        store.receipts.put("receipt", b"synced")
        store.sync()
        (doubtful,) = add_chain(store, b"two", parent=synced.chain_id)
        add_record(store, "doubtful", doubtful)
        store.receipts.put("late receipt", b"doubtful")
        assert store.records.get("doubtful") is not None
    reboot(root)
    with Store.open(root) as store:
        assert store.records.get("synced") is not None
        assert store.records.get("doubtful") is None
        assert list(store.records.get_many(["synced", "doubtful"])) == ["synced"]
        assert store.receipts.get("receipt") == b"synced"
        assert store.receipts.get("late receipt") is None
        nearest = store.records.nearest("RUN make")
        assert nearest is not None, "to explain a miss it is good enough"


def test_who_uses_what_a_killed_build_has_not_synced_syncs_it(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    with Store.open(root) as store:
        (layer,) = add_chain(store, b"one")
        add_record(store, "key", layer)
        store.receipts.put("receipt", b"value")
    with Store.open(root) as store:
        assert store.records.get("key") is not None and store.layers.get(layer.chain_id) is not None
        assert store.receipts.get("receipt") is not None
        store.sync()
    reboot(root)
    with Store.open(root) as store:
        assert store.records.get("key") is not None and store.layers.get(layer.chain_id) is not None
        assert store.receipts.get("receipt") is not None


def test_a_sync_vouches_for_nothing_that_this_process_has_not_seen(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    with Store.open(root) as one, Store.open(root) as other:
        (early,) = add_chain(one, b"one")
        add_record(one, "early", early)
        (late,) = add_chain(other, b"two")
        add_record(other, "late", late)
        one.sync()
    reboot(root)
    with Store.open(root) as store:
        assert store.records.get("early") is not None
        assert store.records.get("late") is None and store.layers.get(late.chain_id) is None


def test_memos_and_receipts_come_back(store: Store) -> None:
    store.memo.put("recipe", "key", b"\0parsed")
    store.memo.put("other", "key", b"else")
    store.receipts.put("key", b"image")
    store.receipts.put("key", b"another image")
    assert store.memo.get("recipe", "key") == b"\0parsed"
    assert store.memo.get("recipe", "nothing") is None
    assert store.receipts.get("key") == b"another image"
    store.receipts.delete("key")
    assert store.receipts.get("key") is None


def test_file_digests_come_back_for_their_root_alone(store: Store) -> None:
    row = (12, 1_700_000_000_123_456_789, -5, 99, 0o100644, b"d" * 32)
    rows = {b"src/Main.java": row, b"not \xff UTF-8\n": (0, 0, 0, 2**63, 0o100755, bytes(32))}
    store.stats.save("/context \udcff", rows)
    store.stats.save("/empty", {})
    assert store.stats.load("/context \udcff") == rows
    assert store.stats.load("/empty") == {} and store.stats.load("/another") == {}
    store.stats.save("/context \udcff", {b"src/Main.java": row})
    assert store.stats.load("/context \udcff") == {b"src/Main.java": row}
    store.stats.forget("/context \udcff")
    assert store.stats.load("/context \udcff") == {}


def test_file_digests_that_make_no_sense_are_unknown(store: Store) -> None:
    store.stats.save("/context", {b"a": (1, 2, 3, 4, 5, bytes(32))})
    for blob in (b"", b"a", b"a\0\0short", b"a\0b\0\0" + bytes(68)):
        store.database.write(lambda c, blob=blob: c.execute("UPDATE stats SET rows = ?", (blob,)))  # type: ignore[misc]
        assert store.stats.load("/context") == {}


def test_a_use_is_written_only_when_the_last_one_is_an_hour_old(store: Store) -> None:
    store.last_use.touch(["a", "b"])
    old = int(time.time()) - 5000
    store.database.write(lambda c: c.execute("UPDATE last_use SET time = ? WHERE id = 'a'", (old,)))
    before = store.database.read("SELECT total_changes()")
    with Store.open(store.root) as again:
        again.last_use.touch(["b"])
        assert again.database.read("SELECT total_changes()") == [(0,)]
        again.last_use.touch(["a", "b"])
        assert again.database.read("SELECT total_changes()") == [(1,)]
    assert store.last_use.all()["a"] > old
    assert before != [(0,)]


def test_a_build_that_does_not_ask_the_database_does_not_open_it(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store.open(str(root)) as store:
        layers = add_chain(store, b"one")
        add_image(store, layers)
    (root / "pybuild.db").rename(root.parent / "away")
    with Store.open(str(root)) as store:
        assert store.layers.get(layers[0].chain_id) is not None
        assert len(store.images.all()) == 1
    assert not (root / "pybuild.db").exists()


def test_to_get_records_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    """A cached build pays for each import."""
    root = str(tmp_path / "store")
    with Store.open(root) as store:
        layers = add_chain(store, b"one")
        add_record(store, "key", layers[0])
        image = add_image(store, layers, "app:1")
    script = (
        "import sys; from cache.store import Store; from cache.oci.digest import ChainID, Digest\n"
        "with Store.open(sys.argv[1]) as s:\n"
        " r = s.records.get('key'); s.layers.lowerdirs(r.chain_id); s.records.touch(['key'])\n"
        " image = s.images.put(s.images.get(Digest(sys.argv[2])))\n"
        " s.sync(); s.images.tag('app:1', image)\n"
        "print(*sorted({'ctypes','sqlite3','json','subprocess','tempfile','shutil','pathlib','zlib','datetime',"
        "'cache.removal','cache.schema','cache.gc'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, root, image],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ROOT},
    )
    assert done.stdout.strip() == ""


# Damage


def damaged(root: Path, how: str) -> None:
    path = root / "pybuild.db"
    if how == "no database":
        path.write_bytes(b"#!/bin/sh\necho this is no database\n" * 100)
    elif how == "pages":
        size = path.stat().st_size
        with open(path, "r+b") as file:
            for start_ in range(4096, size, 4096):
                file.seek(start_)
                file.write(b"\xde\xad" * 2048)
    elif how == "header":
        with open(path, "r+b") as file:
            file.write(b"\0" * 100)
    elif how == "cut off":
        os.truncate(path, 6000)
    elif how == "table":
        connection = sqlite3.connect(path)
        connection.execute("DROP TABLE records")
        connection.commit()
        connection.close()


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A store with an image, a record and a name, closed."""
    with Store.open(str(tmp_path / "store")) as store:
        layers = add_chain(store, b"one", b"two")
        add_record(store, "key", layers[1])
        add_image(store, layers, "app:1")
    return tmp_path / "store"


@pytest.mark.parametrize("how", ["no database", "pages", "header", "cut off", "table"])
def test_a_damaged_database_is_put_aside_with_a_warning_and_the_build_goes_on(used: Path, how: str) -> None:
    damaged(used, how)
    told: list[str] = []
    with Store.open(str(used), warn=told.append) as store:
        assert store.records.get("key") is None
        assert len(told) == 1 and "was damaged: it is kept as pybuild.db.damaged-" in told[0]
        (top,) = [layer for layer in store.layers.all() if layer.parent is not None]
        assert store.layers.get(top.chain_id) == top
        add_record(store, "key", top)
        assert store.layers.children(top.parent) == (top,)
        (image,) = store.images.all()
        store.images.tag("app:2", image)
        assert store.warnings == told
    (aside,) = [each for each in os.listdir(used) if "damaged" in each and each[-3:] not in ("wal", "shm")]
    assert aside in told[0]
    with Store.open(str(used), warn=pytest.fail) as store:
        assert store.records.get("key") is not None


def test_names_that_can_still_be_read_are_saved(used: Path) -> None:
    damaged(used, "table")
    with Store.open(str(used)) as store:
        store.records.get("key")
        assert list(store.images.names()) == ["docker.io/library/app:1"]
        assert "1 image name(s) could be saved" in store.warnings[0]


def test_damage_that_shows_while_the_database_is_open_is_got_over(used: Path) -> None:
    with Store.open(str(used)) as store:
        assert store.records.get("key") is not None
        store.database.close()
        damaged(used, "pages")
        store.records.put(record("new"))
        assert store.records.get("new") is not None
        assert len(store.warnings) == 1


def test_two_processes_that_find_the_damage_put_one_database_aside(used: Path) -> None:
    """The slower one must not put the faster one's new database aside."""
    damaged(used, "no database")
    with Store.open(str(used)) as fast:

        class Lagging(Scratch):
            def lock(self, name: str, **options: Any) -> Lock:
                if name == "damaged-database" and not fast.warnings:
                    fast.records.put(record("new"))
                return super().lock(name, **options)

        told: list[str] = []
        lagging = Database(
            fast.database.path, Lagging(fast.scratch.path), warn=told.append, inhabited=lambda: True
        )
        assert lagging.read("SELECT key FROM records") == [("new",)]
        assert (len(fast.warnings), told) == (1, [])
        lagging.close()


def test_a_lost_database_is_told_and_made_anew_around_the_layers(used: Path) -> None:
    (used / "pybuild.db").unlink()
    with Store.open(str(used)) as store:
        assert store.records.get("key") is None
        assert "was missing or empty" in store.warnings[0]
        layers = store.layers.all()
        lowest = next(layer for layer in layers if layer.parent is None)
        assert [layer.parent for layer in store.layers.children(lowest.chain_id)] == [lowest.chain_id]
        (image,) = store.images.all()
        assert store.images.resolve(image.hex[:12]) == image


def test_a_new_store_warns_of_nothing(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "store"), warn=pytest.fail) as store:
        assert store.records.get("key") is None


def test_a_database_of_a_newer_pybuild_is_left_alone(used: Path) -> None:
    connection = sqlite3.connect(used / "pybuild.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with Store.open(str(used)) as store, pytest.raises(StoreError, match=r"newer pybuild \(schema 99"):
        store.records.get("key")
    assert sqlite3.connect(used / "pybuild.db").execute("SELECT count(*) FROM records").fetchone() == (1,)


def test_a_database_that_cannot_be_opened_is_one_clear_error(used: Path) -> None:
    (used / "pybuild.db").rename(used.parent / "away")
    (used / "pybuild.db").mkdir()
    with Store.open(str(used)) as store, pytest.raises(StoreError, match="unable to open") as caught:
        store.records.get("key")
    assert caught.value.hint is not None


def test_the_boot_id_of_records_is_not_ours_by_chance(store: Store) -> None:
    assert store.boot != OTHER_BOOT and len(store.boot) == 36
