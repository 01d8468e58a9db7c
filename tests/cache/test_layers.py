"""The layer store: what is published is whole, is found again, and is told from what is not."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache.changeset import measure
from cache.errors import StoreCorrupt, StoreError
from cache.layerfiles import short_name
from cache.layers import Layer
from cache.oci.digest import ChainID, DiffID
from cache.store import Store
from tests.cache.scenes import OTHER_BOOT, add_chain, add_layer, add_record, reboot, start, stop

PUBLISH = """
import sys
from cache.store import Store
from tests.cache.scenes import add_chain
with Store.open(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    layers = add_chain(store, *(f"layer {n}".encode() for n in range(int(sys.argv[2]))))
    print(layers[-1].chain_id, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store")) as store:
        yield store


def entry(store: Store, layer: Layer) -> Path:
    return Path(store.root) / "layerdb" / "sha256" / layer.chain_id.hex


def changeset(store: Store, layer: Layer) -> Path:
    return Path(store.root) / "overlay2" / layer.cache_id


def again(store: Store) -> Store:
    """Open the store as another process would: nothing in memory."""
    store.close()
    return Store.open(store.root)


def test_a_chain_comes_back_lowest_first_and_its_lowerdirs_topmost_first(store: Store) -> None:
    layers = add_chain(store, b"one", b"two", b"three")
    fresh = again(store)
    assert fresh.layers.chain(layers[2].chain_id) == tuple(layers)
    paths = fresh.layers.lowerdirs(layers[2].chain_id)
    assert [(Path(path) / "file").read_text() for path in paths] == ["three", "two", "one"]
    assert all(os.path.isabs(path) for path in paths)
    assert layers[2].chain_id == ChainID.extend(layers[1].chain_id, layers[2].diff_id)
    assert str(layers[0].chain_id) == layers[0].diff_id


def test_a_chain_of_hundreds_of_layers_is_no_deeper_than_one(store: Store) -> None:
    parent: ChainID | None = None
    for number in range(520):
        parent = add_layer(store, parent, {"file": str(number).encode()}).chain_id
    assert parent is not None
    fresh = again(store)
    assert len(fresh.layers.lowerdirs(parent)) == 520
    assert len(os.listdir("/proc/self/fd")) < 100, "only the topmost layer of a chain is held"
    fresh.close()


def test_publishing_moves_the_directory_and_copies_nothing(store: Store) -> None:
    with store.stage() as staging:
        (Path(staging.upper) / "file").write_text("content")
        inode = os.stat(staging.upper + "/file").st_ino
        layer = store.layers.publish(None, staging, measure(staging.upper, clamp=None))
        assert not os.path.exists(staging.upper)
    assert os.stat(store.layers.diff_path(layer) + "/file").st_ino == inode
    assert sorted(os.listdir(changeset(store, layer))) == ["committed", "diff", "link"]
    store.close()
    assert os.listdir(store.root + "/tmp") == []


def test_a_changeset_is_stored_once_however_many_chains_it_is_part_of(store: Store) -> None:
    one, two, three = add_chain(store, b"same", b"same", b"same")
    assert one.cache_id == two.cache_id == three.cache_id
    assert len({one.chain_id, two.chain_id, three.chain_id}) == 3
    assert sorted(os.listdir(store.root + "/overlay2")) == [one.cache_id, "l"]
    fresh = again(store)
    assert fresh.layers.chain(three.chain_id) == (one, two, three)
    assert fresh.layers.lowerdirs(three.chain_id) == (store.layers.diff_path(one),), "as the kernel demands"


def test_what_is_there_already_is_not_replaced(store: Store) -> None:
    (first,) = add_chain(store, b"one")
    inode = os.stat(changeset(store, first) / "diff").st_ino
    (second,) = add_chain(again(store), b"one")
    assert second == first
    assert os.stat(changeset(store, first) / "diff").st_ino == inode


def test_what_is_not_there_is_none_and_a_chain_of_it_an_error(store: Store) -> None:
    missing = ChainID("sha256:" + "0" * 64)
    assert store.layers.get(missing) is None
    with pytest.raises(StoreError) as caught:
        store.layers.lowerdirs(missing)
    assert caught.value.code == "store/missing"
    with pytest.raises(StoreError), store.stage() as staging:
        store.layers.publish(missing, staging, measure(staging.upper, clamp=None))
    assert os.listdir(store.root + "/overlay2") == ["l"]


def test_the_short_name_is_the_base32_of_the_diff_id() -> None:
    cache_id = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    done = subprocess.run(
        f"printf {cache_id} | xxd -r -p | base32 -w0 | head -c 26",
        shell=True,
        capture_output=True,
        check=True,
    )
    assert short_name(cache_id) == done.stdout.decode()


def test_the_changeset_of_an_overlay_mount_serves_as_the_next_ones_lowerdir(
    store: Store, tmp_path: Path
) -> None:
    """With a real mount: a file deleted above is a whiteout in the changeset, and stays deleted."""
    base = add_layer(store, None, {"keep": b"1", "drop": b"2"})
    (tmp_path / "merged").mkdir()
    with store.stage() as staging:
        (lower,) = store.layers.lowerdirs(base.chain_id)
        options = f"lowerdir={lower},upperdir={staging.upper},workdir={staging.work}"
        script = f"mount -t overlay -o {options} none {tmp_path}/merged && rm {tmp_path}/merged/drop"
        subprocess.run(["unshare", "-m", "sh", "-euc", script], check=True)
        top = store.layers.publish(base.chain_id, staging, measure(staging.upper, clamp=None))
    assert stat.S_ISCHR(os.stat(store.layers.diff_path(top) + "/drop").st_mode)
    lower = ":".join(store.layers.lowerdirs(top.chain_id))
    script = f"mount -t overlay -o lowerdir={lower} none {tmp_path}/merged && ls {tmp_path}/merged"
    seen = subprocess.run(["unshare", "-m", "sh", "-euc", script], check=True, capture_output=True, text=True)
    assert seen.stdout.split() == ["keep"]


# Candidates


def test_children_and_candidates_are_those_right_above(store: Store) -> None:
    base, above = add_chain(store, b"one", b"two")
    alike = add_layer(store, base.chain_id, {"file": b"three"}, signature=b"alike")
    other = add_layer(store, base.chain_id, {"file": b"four"}, signature=b"other")
    add_layer(store, above.chain_id, {"file": b"five"}, signature=b"alike")
    assert {layer.chain_id for layer in store.layers.children(base.chain_id)} == {
        above.chain_id,
        alike.chain_id,
        other.chain_id,
    }
    assert store.layers.children(None) == (base,)
    assert store.layers.candidates(base.chain_id, b"alike") == (alike,)
    assert store.layers.candidates(None, b"alike") == ()


def test_a_candidate_that_cannot_be_used_is_none(store: Store) -> None:
    layer = add_layer(store, None, {"file": b"one"}, signature=b"alike")
    fresh = again(store)
    shutil.rmtree(changeset(store, layer))
    assert fresh.layers.candidates(None, b"alike") == ()


# Power cuts


DAMAGES = {
    "committed is empty": "overlay2/{cache_id}/committed",
    "diff is empty": "layerdb/sha256/{chain}/diff",
    "parent is empty": "layerdb/sha256/{chain}/parent",
    "cache-id is empty": "layerdb/sha256/{chain}/cache-id",
    "size is empty": "layerdb/sha256/{chain}/size",
    "lower is empty": "layerdb/sha256/{chain}/lower",
}


@pytest.mark.parametrize("gone", [False, True], ids=["empty", "gone"])
@pytest.mark.parametrize("file", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_layer_of_which_a_power_cut_left_a_part_is_no_layer_and_is_replaced(
    store: Store, file: str, gone: bool
) -> None:
    """ext4 leaves files of length zero, or none at all."""
    base, layer, above = add_chain(store, b"one", b"two", b"three")
    path = Path(store.root) / file.format(cache_id=layer.cache_id, chain=layer.chain_id.hex)
    if gone:
        path.unlink()
    else:
        os.truncate(path, 0)
    with again(store) as fresh:
        assert fresh.layers.get(layer.chain_id) is None
        assert fresh.layers.get(above.chain_id) is None
        assert fresh.layers.get(base.chain_id) == base
        assert add_chain(fresh, b"two", b"three", parent=base.chain_id) == [layer, above]
        fresh.layers.verify(above.chain_id)
        fresh.layers.verify(layer.chain_id)
    assert os.listdir(store.root + "/tmp") == []


def test_a_layer_of_another_boot_that_was_not_synced_is_replaced_whatever_is_left_of_it(store: Store) -> None:
    (layer,) = add_chain(store, b"one")
    reboot(store.root)
    os.truncate(changeset(store, layer) / "diff" / "file", 0)
    with again(store) as fresh:
        assert fresh.layers.get(layer.chain_id) is None
        assert fresh.layers.children(None) == ()
        assert add_chain(fresh, b"one") == [layer]
        assert (changeset(store, layer) / "diff" / "file").read_text() == "one"
        assert (changeset(store, layer) / "committed").read_text() == fresh.boot


def test_a_synced_layer_outlasts_the_boot(store: Store) -> None:
    (layer,) = add_chain(store, b"one")
    store.sync()
    reboot(store.root)
    assert again(store).layers.get(layer.chain_id) == layer


@pytest.mark.parametrize("left", [OTHER_BOOT, "synced" + OTHER_BOOT[6:], OTHER_BOOT[:6]])
def test_a_synced_layer_is_trusted_though_the_power_went_before_committed_said_so(
    store: Store, left: str
) -> None:
    """The mark is not synced itself: it may be old, half new, or cut off. The database is asked then."""
    (layer,) = add_chain(store, b"one")
    store.sync()
    (changeset(store, layer) / "committed").write_text(left)
    assert again(store).layers.get(layer.chain_id) == layer
    assert (changeset(store, layer) / "committed").read_text().startswith("synced")


def test_a_chain_on_a_synced_changeset_that_is_new_itself_is_told_by_its_entry(store: Store) -> None:
    """The second chain shares the synced changeset of the first; only its entry can have suffered."""
    (first,) = add_chain(store, b"one")
    store.sync()
    (second,) = add_chain(store, b"one", parent=first.chain_id)
    reboot(store.root)
    fresh = again(store)
    assert fresh.layers.get(second.chain_id) == second
    fresh.close()
    os.truncate(entry(store, second) / "lower", 0)
    assert Store.open(store.root).layers.get(second.chain_id) is None


def test_what_is_synced_stays_so_when_it_is_published_again(store: Store) -> None:
    (layer,) = add_chain(store, b"one")
    store.sync()
    with again(store) as later:
        add_chain(later, b"one")
    reboot(store.root)
    (changeset(store, layer) / "committed").write_text(OTHER_BOOT)
    assert Store.open(store.root).layers.get(layer.chain_id) == layer


def test_the_sync_of_a_changeset_that_somebody_removed_by_hand_does_not_vouch_for_the_next(
    store: Store,
) -> None:
    (layer,) = add_chain(store, b"one")
    store.sync()
    store.close()
    shutil.rmtree(changeset(store, layer))
    with again(store) as later:
        assert add_chain(later, b"one") == [layer]
    reboot(store.root)
    assert Store.open(store.root).layers.get(layer.chain_id) is None


def test_threads_of_a_build_publish_side_by_side(store: Store) -> None:
    tops: list[Layer] = []

    def build(number: int) -> None:
        tops.append(add_chain(store, b"shared", b"%d" % number, b"shared", b"top")[-1])

    threads = [threading.Thread(target=build, args=(number % 3,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tops) == 6 and len({layer.chain_id for layer in tops}) == 3
    for layer in tops:
        store.layers.verify(layer.chain_id)
    assert len(store.layers.all()) == 1 + 3 * 3


def test_an_entry_under_a_name_that_is_not_its_chain_id_is_no_layer(store: Store) -> None:
    base, layer = add_chain(store, b"one", b"two")
    wrong = ChainID("sha256:" + "a" * 64)
    shutil.copytree(entry(store, layer), entry(store, layer).with_name(wrong.hex))
    fresh = again(store)
    assert fresh.layers.get(wrong) is None
    assert {each.chain_id for each in fresh.layers.all()} == {base.chain_id, layer.chain_id}


def test_links_are_not_followed_out_of_an_entry(store: Store, tmp_path: Path) -> None:
    (layer,) = add_chain(store, b"one")
    (tmp_path / "diff").write_text(layer.diff_id)
    (entry(store, layer) / "diff").unlink()
    (entry(store, layer) / "diff").symlink_to(tmp_path / "diff")
    with pytest.raises(StoreError):
        again(store).layers.get(layer.chain_id)


# Verification


def test_a_layer_as_it_was_published_verifies_and_the_disk_stays_as_it_is(store: Store) -> None:
    layers = add_chain(store, b"one", b"two")
    before = subprocess.run(
        ["find", store.root, "-printf", "%p %i %s %C@ %T@\n"], capture_output=True, check=True
    )
    for layer in layers:
        store.layers.verify(layer.chain_id)
    after = subprocess.run(
        ["find", store.root, "-printf", "%p %i %s %C@ %T@\n"], capture_output=True, check=True
    )
    assert [
        line for line in after.stdout.split(b"\n") if b"/tmp" not in line and b"pybuild.db" not in line
    ] == [line for line in before.stdout.split(b"\n") if b"/tmp" not in line and b"pybuild.db" not in line]


def damage_content(store: Store, layer: Layer) -> None:
    path = changeset(store, layer) / "diff" / "file"
    status = path.stat()
    path.write_text("tWo")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def damage_mode(store: Store, layer: Layer) -> None:
    os.chmod(changeset(store, layer) / "diff" / "file", 0o4755)


def damage_extra(store: Store, layer: Layer) -> None:
    (changeset(store, layer) / "diff" / "extra").touch()


def damage_link(store: Store, layer: Layer) -> None:
    (changeset(store, layer) / "link").write_text("A" * 26)


def damage_symlink(store: Store, layer: Layer) -> None:
    path = Path(store.root) / "overlay2" / "l" / short_name(layer.cache_id)
    path.unlink()
    path.symlink_to("../elsewhere/diff")


def damage_lower(store: Store, layer: Layer) -> None:
    path = entry(store, layer) / "lower"
    path.write_text("l/" + "A" * (len(path.read_text()) - 2))


@pytest.mark.parametrize(
    "damage", [damage_content, damage_mode, damage_extra, damage_link, damage_symlink, damage_lower]
)
@pytest.mark.parametrize("foreign", [False, True], ids=["built here", "pulled"])
def test_verification_finds_what_was_changed_on_the_disk(store: Store, damage: object, foreign: bool) -> None:
    (base,) = add_chain(store, b"one")
    with store.stage() as staging:
        (Path(staging.upper) / "file").write_text("two")
        measured = measure(staging.upper, clamp=None)
        if foreign:  # a tar that another tool wrote, of the same files
            tar = subprocess.run(
                ["tar", "-C", staging.upper, "-c", "file"], capture_output=True, check=True
            ).stdout
            from dataclasses import replace

            from cache.oci.digest import Digest

            measured = replace(measured, diff_id=DiffID(Digest.of(tar)), size=len(tar))
        layer = store.layers.publish(base.chain_id, staging, measured, foreign=foreign)
    store.layers.verify(layer.chain_id)
    damage(store, layer)  # type: ignore[operator]
    with pytest.raises(StoreCorrupt):
        store.layers.verify(layer.chain_id)


# Removal


def test_a_layer_is_removed_with_its_changeset_unless_another_chain_has_that(store: Store) -> None:
    one, two, three = add_chain(store, b"a", b"b", b"a")
    assert store.layers.remove(three.chain_id)
    assert store.layers.get(three.chain_id) is None
    assert store.layers.lowerdirs(two.chain_id)[1] == store.layers.diff_path(one)
    assert store.layers.remove(two.chain_id) and store.layers.remove(one.chain_id)
    assert not store.layers.remove(one.chain_id)
    assert os.listdir(store.root + "/overlay2") == ["l"]
    assert os.listdir(store.root + "/overlay2/l") == os.listdir(store.root + "/layerdb/sha256") == []
    assert os.listdir(store.root + "/tmp") == []
    assert store.layers.children(None) == ()


def test_a_layer_that_others_stand_on_is_not_removed(store: Store) -> None:
    one, two = add_chain(store, b"a", b"b")
    with pytest.raises(StoreError) as caught:
        store.layers.remove(one.chain_id)
    assert caught.value.code == "store/in-use"
    assert again(store).layers.get(two.chain_id) == two


def test_a_layer_that_another_process_was_given_is_not_removed_before_that_ends(store: Store) -> None:
    process = start(PUBLISH, store.root, "2")
    try:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        process.stdin.write("\n")
        process.stdin.flush()
        top = ChainID(process.stdout.readline().strip())
        with pytest.raises(StoreError, match="used by a build or container"):
            store.layers.remove(top)
    finally:
        stop(process)
    assert store.layers.remove(top)


def test_a_lease_holds_a_layer_for_a_child_that_outlives_the_store_object(store: Store) -> None:
    (layer,) = add_chain(store, b"one")
    lease = store.layers.lease([layer.chain_id])
    child = subprocess.Popen(["sleep", "60"], pass_fds=lease.filenos())
    try:
        lease.close()
        with again(store) as fresh, pytest.raises(StoreError, match="used by"):
            fresh.layers.remove(layer.chain_id)
    finally:
        child.kill()
        child.wait()
    assert Store.open(store.root).layers.remove(layer.chain_id)


def test_what_is_not_there_cannot_be_leased(store: Store) -> None:
    with pytest.raises(StoreError):
        store.layers.lease([ChainID("sha256:" + "0" * 64)])


# Several at once, and kills


def test_processes_that_publish_the_same_layers_at_once_share_them(store: Store) -> None:
    processes = [start(PUBLISH, store.root, "25") for _ in range(3)]
    tops = set()
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0
        tops.add(out.strip())
    (top,) = tops
    chain = store.layers.chain(ChainID(top))
    assert len(chain) == 25
    for layer in chain:
        store.layers.verify(layer.chain_id)
    assert os.listdir(store.root + "/tmp") == []
    assert len(os.listdir(store.root + "/overlay2")) == 26


KILLED = """
import os, sys
from cache.store import Store
from tests.cache.scenes import add_chain, add_image, add_record
with Store.open(sys.argv[1]) as store:
    print("ready", flush=True)
    for round in range(1000):
        layers = add_chain(store, b"base", *(os.urandom(4) for _ in range(2)))
        for layer in layers:
            add_record(store, layer.chain_id, layer)
        add_image(store, layers, "app:1")
"""


def test_a_store_is_sound_after_kills_at_any_instant(tmp_path: Path) -> None:
    """Every layer that is there is whole, every record's layer is there, every name's image is, and tmp/
    is empty."""
    root = str(tmp_path / "store")
    for number in range(30):
        process = start(KILLED, root)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        with contextlib.suppress(subprocess.TimeoutExpired):  # any instant will do: nothing depends on which
            process.wait(timeout=0.002 + 0.004 * number)
        stop(process)
        with Store.open(root, warn=pytest.fail) as store:
            assert os.listdir(root + "/tmp") == []
            entries = os.listdir(root + "/layerdb/sha256")
            for name in entries:
                assert store.layers.get(ChainID("sha256:" + name)) is not None
            for record in store.records:
                assert store.layers.get(record.chain_id) is not None
            for image in store.images.names().values():
                store.images.get(image)
    assert len(entries) > 10
    with Store.open(root) as store:
        for layer in store.layers.all():
            store.layers.verify(layer.chain_id)
        children = {each.chain_id for each in store.layers.children(None)}
        assert children == {each.chain_id for each in store.layers.all() if each.parent is None}


def test_a_step_whose_layer_was_published_but_not_recorded_is_taken_up(store: Store) -> None:
    """Killed between the two: the layer is there, and is found to be so when the step has run again."""
    (layer,) = add_chain(store, b"one")
    with again(store) as fresh:
        assert fresh.records.get("key") is None
        (same,) = add_chain(fresh, b"one")
        assert same == layer
        add_record(fresh, "key", same)
