"""Pruning: what something needs stays, the rest goes in the right order, and others are not disturbed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cache.absent import AbsentLayer, Origin
from cache.blobs import LayerBlob
from cache.compression import Compression
from cache.containers import Container
from cache.gc import Report, prune
from cache.layers import Layer
from cache.oci.digest import ChainID, DiffID, Digest
from cache.oci.spec import Descriptor
from cache.prunepolicy import Item, Policy
from cache.store import Store
from tests.cache.scenes import (
    OTHER_BOOT,
    add_chain,
    add_image,
    add_layer,
    add_record,
    reboot,
    start,
    stop,
)

ALL = Policy()

HOLD = """
import sys
from cache.oci.digest import ChainID
from cache.store import Store
store = Store.open(sys.argv[1])
assert store.layers.get(ChainID(sys.argv[2]))
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store")) as store:
        yield store


def sweep(
    store: Store, policy: Policy = ALL, *, dry_run: bool = False, keep: tuple[ChainID, ...] = ()
) -> Report:
    """Prune as another process would, after those of `store` ended."""
    store.close()
    with Store.open(store.root) as other:
        return prune(other, [policy], dry_run=dry_run, keep=keep)


def gone(report: Report, kind: str) -> list[str]:
    return [item.identity for item in report.items if item.kind == kind]


def age(store: Store, seconds: int, *layers: Layer) -> None:
    """Make layers, and the records of them, as if they were made and used `seconds` ago."""
    then = int(time.time()) - seconds
    for layer in layers:
        for statement in (
            "UPDATE layers SET created = ? WHERE chain_id = ?",
            "UPDATE records SET created = ? WHERE chain_id = ?",
            "UPDATE last_use SET time = ? WHERE id IN (SELECT key FROM records WHERE chain_id = ?)",
        ):
            store.database.write(lambda c, s=statement, i=layer.chain_id: c.execute(s, (then, i)))  # type: ignore[misc]


def remaining(store: Store) -> set[ChainID]:
    with Store.open(store.root) as other:
        layers = other.layers.all()
        assert all(other.layers.get(layer.chain_id) is not None for layer in layers)
        changesets = {layer.cache_id for layer in layers}
        assert set(os.listdir(store.root + "/overlay2")) == changesets | {"l"}
        assert len(os.listdir(store.root + "/overlay2/l")) == len(changesets)
        assert os.listdir(store.root + "/tmp") == []
        return {layer.chain_id for layer in layers}


def chain_ids(*layers: Layer) -> set[ChainID]:
    return {layer.chain_id for layer in layers}


def test_what_a_name_needs_stays_and_all_else_goes(store: Store) -> None:
    layers = add_chain(store, b"one", b"two", b"three")
    image = add_image(store, layers[:2], "app")
    other = add_chain(store, b"four", b"five", parent=layers[0].chain_id)
    report = sweep(store)
    assert remaining(store) == chain_ids(*layers[:2])
    assert set(gone(report, "layer")) == chain_ids(layers[2], *other)
    assert report.freed == layers[2].size + other[0].size + other[1].size and report.kept == 0
    assert Store.open(store.root).images.all() == (image,)


def test_an_image_without_a_name_goes_with_its_layers(store: Store) -> None:
    layers = add_chain(store, b"one", b"two")
    image = add_image(store, layers)
    report = sweep(store)
    assert gone(report, "image") == [image]
    assert remaining(store) == set() and Store.open(store.root).images.all() == ()


def known_above(layer: Layer) -> AbsentLayer:
    """A layer on `layer` that is somewhere else."""
    blob = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(b"there"), 5)
    origin = Origin("cache", "type=dir,path=/nowhere", blob)
    return AbsentLayer(layer.chain_id, DiffID(Digest.of(b"there")), 5, (origin,))


def test_a_layer_below_one_that_is_not_here_yet_is_needed_like_any_other(store: Store) -> None:
    layers = add_chain(store, b"one", b"two")
    top = known_above(layers[1])
    store.absent.note(top)
    add_image(store, [*layers, top], "app")
    sweep(store)
    assert remaining(store) == chain_ids(*layers)


def test_what_is_known_of_a_step_whose_layer_is_elsewhere_stays_with_what_is_below(store: Store) -> None:
    (layer,) = add_chain(store, b"one")
    top = known_above(layer)
    add_image(store, [layer], "app")
    add_record(store, "elsewhere", top)
    add_record(store, "nowhere", replace(top, parent=top.chain_id))
    store.absent.note(top)
    assert gone(sweep(store), "record") == ["nowhere"]
    with Store.open(store.root) as other:
        assert other.records.get("elsewhere") is not None


def test_a_dry_run_says_the_same_and_does_nothing(store: Store) -> None:
    layers = add_chain(store, b"one", b"two", b"three")
    for layer in layers:
        add_record(store, layer.chain_id, layer)
    add_image(store, layers[:1], "app")
    add_image(store, layers, author="nobody")
    store.blobs.put(b"blob")
    store.close()
    before = subprocess.run(["find", store.root], capture_output=True, check=True).stdout.splitlines()
    dry = sweep(store, dry_run=True)
    after = subprocess.run(["find", store.root], capture_output=True, check=True).stdout.splitlines()
    assert sorted(before) == sorted(after)
    wet = sweep(store)
    assert (dry.items, dry.freed, dry.kept, dry.dry_run) == (wet.items, wet.freed, wet.kept, True)
    assert len(wet.items) == 2 + 2 + 1 + 1


def test_layers_go_from_the_top(store: Store) -> None:
    layers = add_chain(store, b"one", b"two", b"three")
    assert gone(sweep(store), "layer") == [layer.chain_id for layer in reversed(layers)]


def test_layers_that_a_lost_database_knew_the_age_of_count_as_used_now(store: Store) -> None:
    layers = add_chain(store, b"one", b"two")
    add_image(store, layers)
    store.close()
    os.unlink(store.root + "/pybuild.db")
    assert sweep(store, Policy(older_than=3600)).items == ()
    assert remaining(store) == chain_ids(*layers)


def test_a_changeset_that_a_needed_chain_shares_stays_and_frees_nothing(store: Store) -> None:
    kept = add_chain(store, b"one", b"two")
    add_image(store, kept, "app")
    shared = add_chain(store, b"two")
    report = sweep(store)
    assert (gone(report, "layer"), report.freed) == ([shared[0].chain_id], 0)
    assert remaining(store) == chain_ids(*kept)


def test_what_was_used_lately_stays_if_only_the_old_is_to_go(store: Store) -> None:
    old = add_chain(store, b"old", b"older")
    new = add_chain(store, b"new")
    age(store, 5000, *old)
    report = sweep(store, Policy(older_than=3600))
    assert set(gone(report, "layer")) == chain_ids(*old)
    assert remaining(store) == chain_ids(*new)
    assert report.kept == new[0].size


def test_the_use_of_a_record_is_the_use_of_its_layer_and_of_those_below(store: Store) -> None:
    layers = add_chain(store, b"one", b"two", b"three")
    for layer in layers:
        add_record(store, layer.chain_id, layer)
    age(store, 50000, *layers)
    with Store.open(store.root) as later:
        later.records.touch([layers[1].chain_id])
    report = sweep(store, Policy(older_than=3600))
    assert gone(report, "layer") == gone(report, "record") == [layers[2].chain_id]
    assert remaining(store) == chain_ids(*layers[:2])


def test_the_longest_unused_go_until_the_rest_fits(store: Store) -> None:
    branches = [add_layer(store, None, {"file": b"%d" % number}) for number in range(5)]
    order = [3, 0, 4, 1, 2]
    for rank, number in enumerate(order):
        age(store, 10000 - rank * 1000, branches[number])
    size = branches[0].size
    report = sweep(store, Policy(keep_storage=2 * size))
    assert gone(report, "layer") == [branches[number].chain_id for number in order[:3]]
    assert (report.freed, report.kept) == (3 * size, 2 * size)


def test_both_bounds_must_be_crossed(store: Store) -> None:
    old, older, new = (add_layer(store, None, {"file": content}) for content in (b"a", b"b", b"c"))
    age(store, 5000, old)
    age(store, 9000, older)
    report = sweep(store, Policy(older_than=3600, keep_storage=2 * old.size))
    assert gone(report, "layer") == [older.chain_id]
    report = sweep(store, Policy(older_than=3600, keep_storage=0))
    assert gone(report, "layer") == [old.chain_id]
    assert remaining(store) == chain_ids(new)


def test_the_records_of_a_layer_go_with_it_and_others_stay(store: Store) -> None:
    layers = add_chain(store, b"one", b"two")
    add_image(store, layers[:1], "app")
    add_record(store, "kept", layers[0])
    add_record(store, "gone", layers[1])
    add_record(store, "gone too", layers[1])
    report = sweep(store)
    assert sorted(gone(report, "record")) == ["gone", "gone too"]
    assert [record.key for record in Store.open(store.root).records] == ["kept"]


def test_what_another_process_was_given_stays_with_all_below(store: Store) -> None:
    layers = add_chain(store, b"one", b"two", b"three")
    for layer in layers:
        add_record(store, layer.chain_id, layer)
    store.close()
    process = start(HOLD, store.root, layers[1].chain_id)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        for dry_run in (True, False):
            report = sweep(store, dry_run=dry_run)
            assert gone(report, "layer") == gone(report, "record") == [layers[2].chain_id]
            assert report.kept == layers[0].size + layers[1].size
    finally:
        stop(process)
    assert remaining(store) == chain_ids(*layers[:2])
    assert len(gone(sweep(store), "layer")) == 2
    assert remaining(store) == set()


def test_what_came_into_use_after_it_was_chosen_stays_with_all_below_and_its_records(store: Store) -> None:
    """Between the choice and the deed, somebody takes a lease."""
    from cache.survey import survey
    from cache.takeaway import Removal

    layers = add_chain(store, b"one", b"two", b"three")
    for layer in layers:
        add_record(store, layer.chain_id, layer)
    store.close()
    chosen = [
        each
        for layer in reversed(layers)
        for each in (Item("layer", layer.chain_id, layer.size), Item("record", layer.chain_id))
    ]
    with Store.open(store.root) as user, Store.open(store.root) as pruner:
        found = survey(pruner)
        assert user.layers.get(layers[1].chain_id) is not None
        removal = Removal(pruner)
        taken = removal.take(chosen, found)
        removal.finish()
    assert taken == chosen[:2]
    assert remaining(store) == chain_ids(*layers[:2])
    assert [record.key for record in Store.open(store.root).records] != []


def test_what_a_container_stands_on_stays_until_it_is_removed(store: Store) -> None:
    layers = add_chain(store, b"one", b"two")
    container = Container("c" * 64, "mine", "", layers[0].chain_id, ("sh",), int(time.time()))
    os.close(store.containers.create(container))
    assert gone(sweep(store), "layer") == [layers[1].chain_id]
    assert remaining(store) == chain_ids(layers[0])
    with Store.open(store.root) as other:
        other.containers.remove(container.id)
    sweep(store)
    assert remaining(store) == set()


def test_what_the_caller_keeps_stays(store: Store) -> None:
    layers = add_chain(store, b"one", b"two")
    sweep(store, keep=(layers[0].chain_id, ChainID("sha256:" + "0" * 64)))
    assert remaining(store) == chain_ids(layers[0])


def test_what_a_power_cut_left_unusable_goes_whatever_the_policy(store: Store) -> None:
    (good,) = add_chain(store, b"good")
    store.sync()
    bad = add_chain(store, b"bad", b"worse", parent=good.chain_id)
    reboot(store.root)
    report = sweep(store, Policy(older_than=10**6))
    assert set(gone(report, "layer")) == chain_ids(*bad)
    assert remaining(store) == chain_ids(good)


@pytest.mark.parametrize("named", [False, True])
def test_broken_entries_and_strangers_go_and_leave_the_rest_usable(store: Store, named: bool) -> None:
    layers = add_chain(store, b"one", b"two", b"three")
    if named:
        add_image(store, layers[:1], "app")
    root = Path(store.root)
    os.truncate(root / "layerdb/sha256" / layers[2].chain_id.hex / "diff", 0)
    (root / "overlay2" / ("e" * 64) / "diff").mkdir(parents=True)
    (root / "overlay2/l/DANGLING").symlink_to("../nothing/diff")
    (root / "layerdb/sha256/stranger").write_text("?")
    report = sweep(store, Policy(older_than=10**6))
    assert (
        len(gone(report, "remnant")) == 6
    )  # the entry, its changeset and short name, and the three strangers
    assert remaining(store) == chain_ids(*layers[:2])


def test_images_that_cannot_be_read_do_not_stop_a_prune(store: Store) -> None:
    layers = add_chain(store, b"one")
    named = store.images.put(b"no config at all")
    store.images.tag("app", named)
    nameless = store.images.put(b"{}")
    damaged = add_image(store, layers)
    os.truncate(store.images.path(damaged), 0)
    report = sweep(store)
    assert set(gone(report, "image")) == {nameless, damaged}
    assert Store.open(store.root).images.all() == (named,)


# Blobs


def test_blobs_of_needed_layers_and_the_manifests_of_named_images_stay(store: Store) -> None:
    layers = add_chain(store, b"one", b"two")
    image = add_image(store, layers[:1], "app")
    other = add_image(store, layers, author="nobody")
    compression = Compression("gzip", 6)
    kept = store.blobs.put(b"the first layer")
    store.blobs.note_layer(layers[0].diff_id, compression, LayerBlob("gzip", kept, 15))
    pulled = store.blobs.put(b"the first layer as it was pulled")
    store.blobs.note_pulled(layers[0].diff_id, LayerBlob("gzip", pulled, 32))
    dropped = [store.blobs.put(b"the second layer")]
    store.blobs.note_layer(layers[1].diff_id, compression, LayerBlob("gzip", dropped[0], 16))
    manifests = [
        store.blobs.put(json.dumps({"config": {"digest": digest}, "layers": []}).encode())
        for digest in (image, other)
    ]
    indexes = [
        store.blobs.put(json.dumps({"manifests": [{"digest": digest}]}).encode()) for digest in manifests
    ]
    dropped += [manifests[1], indexes[1], store.blobs.put(b"{ no json"), store.blobs.put(b"[" * 10000)]
    report = sweep(store)
    assert set(gone(report, "blob")) == set(dropped)
    assert report.freed > sum(len(data) for data in (b"the second layer", b"{ no json"))
    left = {blob.digest for blob in Store.open(store.root).blobs.all()}
    assert left == {kept, pulled, manifests[0], indexes[0]}


def test_a_blob_that_a_build_has_written_or_read_stays_while_that_goes_on(store: Store) -> None:
    """Between the compression of a layer and the archive that it goes into, say."""
    blob = store.blobs.put(b"blob")
    with Store.open(store.root) as other:
        assert gone(prune(other), "blob") == []
    store.close()
    with Store.open(store.root) as reader:
        assert reader.blobs.read(blob) == b"blob"
        with Store.open(store.root) as other:
            assert gone(prune(other), "blob") == []
    assert gone(sweep(store), "blob") == [blob]


# The whole, with chance


@pytest.mark.parametrize("seed", range(4))
def test_any_prune_of_any_store_leaves_it_sound(store: Store, seed: int) -> None:
    """Random trees of layers, images, leases and bounds: what is needed or held stays, what stays is
    whole."""
    chance = random.Random(seed)
    layers: list[Layer] = []
    for _ in range(40):
        parent = chance.choice([None, *(layer.chain_id for layer in layers)])
        layer = add_layer(store, parent, {"file": b"%d" % chance.randrange(15)})
        if layer not in layers:
            layers.append(layer)
    age_of = {layer.chain_id: chance.randrange(10000) for layer in layers}
    for layer in layers:
        age(store, age_of[layer.chain_id], layer)
        if chance.random() < 0.7:
            add_record(store, layer.chain_id, layer, created=int(time.time()) - age_of[layer.chain_id])
    store.sync()
    named = chance.sample(layers, 3)
    for number, layer in enumerate(named):
        add_image(store, list(store.layers.chain(layer.chain_id)), f"app:{number}")
    needed = {each.chain_id for layer in named for each in store.layers.chain(layer.chain_id)}
    held = chance.choice(layers)
    with Store.open(store.root) as holder:
        needed |= {each.chain_id for each in holder.layers.chain(held.chain_id)}
        policy = Policy(chance.choice([None, 0, 5000]), chance.choice([None, 0, 10000]))
        report = sweep(store, policy)
        left = remaining(store)
        assert needed <= left
        assert left | set(gone(report, "layer")) == chain_ids(*layers)
        if policy == Policy() or policy == Policy(0, 0):
            assert left == needed
        if policy.keep_storage is not None and policy.older_than != 5000:
            unneeded = report.kept - sum(layer.size for layer in layers if layer.chain_id in needed)
            assert unneeded <= policy.keep_storage
    with Store.open(store.root) as other:
        assert all(other.layers.get(record.chain_id) is not None for record in other.records)
        for layer in other.layers.all():
            other.layers.verify(layer.chain_id)


PRUNE = """
import sys
from cache.gc import prune
from cache.store import Store
with Store.open(sys.argv[1]) as store:
    print("ready", flush=True)
    while True:
        prune(store)
"""


def test_builds_and_prunes_at_once_never_meet(store: Store) -> None:
    """Somebody prunes all the time; whatever a build was given or has published stays there for it."""
    process = start(PRUNE, store.root)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for number in range(25):
            with Store.open(store.root) as build:
                layers = add_chain(build, b"base", b"%d" % (number % 3), b"top %d" % number)
                image = add_image(build, layers, "app")
                for layer in layers:
                    assert os.path.exists(build.layers.diff_path(layer) + "/file")
            with Store.open(store.root) as build:
                assert build.images.resolve("app") == image
                assert build.layers.get(layers[2].chain_id) == layers[2]
    finally:
        stop(process)
    with Store.open(store.root) as after:
        prune(after)
    assert remaining(store) == chain_ids(*layers)


KILLED = PRUNE.replace("while True:\n        prune(store)", "prune(store)\n    sys.stdin.readline()")


def test_a_prune_that_is_killed_leaves_a_sound_store(store: Store) -> None:
    kept = add_chain(store, b"kept", b"too")
    add_image(store, kept, "app")
    store.close()
    for number in range(10):
        with Store.open(store.root) as build:
            for layer in add_chain(
                build, *(b"%d %d" % (number, n) for n in range(8)), parent=kept[0].chain_id
            ):
                add_record(build, layer.chain_id, layer)
            build.sync()
        process = start(KILLED, store.root)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.004 * number)  # any instant will do
        stop(process)
        with Store.open(store.root, warn=pytest.fail) as after:
            assert os.listdir(store.root + "/tmp") == []
            for layer in after.layers.all():
                assert after.layers.get(layer.chain_id) is not None
            assert after.layers.chain(kept[1].chain_id) == tuple(kept)
    sweep(store)
    assert remaining(store) == chain_ids(*kept)


def test_a_layer_that_was_removed_and_made_again_is_not_taken_for_the_synced_one(store: Store) -> None:
    """The index forgets for good before a layer goes: else its old row would vouch for the new one."""
    (layer,) = add_chain(store, b"one")
    store.sync()
    sweep(store)
    with Store.open(store.root) as again:
        assert add_chain(again, b"one") == [layer]
    reboot(store.root)
    committed = Path(store.root) / "overlay2" / layer.cache_id / "committed"
    assert committed.read_text() == OTHER_BOOT
    assert Store.open(store.root).layers.get(layer.chain_id) is None


def test_an_empty_store_has_nothing_to_prune(store: Store) -> None:
    assert prune(store) == Report((), 0, 0, False)


def test_memos_that_nobody_asks_for_go_after_a_month(store: Store) -> None:
    store.memo.put("recipe", "old", b"1")
    store.memo.put("recipe", "new", b"2")
    store.database.write(lambda c: c.execute("UPDATE memo SET used = 1000 WHERE key = 'old'"))
    prune(store)
    assert (store.memo.get("recipe", "old"), store.memo.get("recipe", "new")) == (None, b"2")


def test_the_digest_of_a_report_is_json(store: Store) -> None:
    from dataclasses import asdict

    add_chain(store, b"one")
    report = sweep(store)
    assert json.loads(json.dumps(asdict(report)))["items"][0]["kind"] == "layer"
    assert isinstance(report.items[0].identity, str) and Digest.parse(report.items[0].identity)
