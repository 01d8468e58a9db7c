"""What a policy takes: never what is needed, held or not meant, no more than must go, what is worth least
first."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.blobs import StoredBlob
from cache.gc import Report, prune
from cache.layers import Layer
from cache.oci.digest import ChainID, DiffID, Digest
from cache.prunechoice import choose
from cache.prunepolicy import ALL_KINDS, USUAL_KINDS, Item, Kind, Policy, worth
from cache.reach import ImageUse
from cache.store import Store
from cache.survey import Survey
from tests.cache.scenes import ROOT, add_chain, add_image, add_layer, add_record
from tests.cache.test_gc import ALL, age, gone, known_above

NOW = 1_700_000_000
_BOUNDS = st.none() | st.integers(0, 3000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store")) as store:
        yield store


@st.composite
def surveys(draw: st.DrawFn) -> Survey:
    """Forests of layers with blobs and images on them; some are needed, some cannot be used."""
    layers: dict[ChainID, Layer] = {}
    used, seconds, records = {}, {}, {}
    for number in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from([None, *layers]))
        diff_id = DiffID(Digest.of(b"%d" % draw(st.integers(0, 9))))
        chain = ChainID.extend(parent, diff_id)
        size = 10 + int(diff_id[-2:], 16)
        layers[chain] = Layer(chain, parent, diff_id, diff_id[-20:], size)
        used[chain] = NOW - draw(st.integers(0, 5)) * 40_000
        if draw(st.booleans()):
            seconds[chain] = draw(st.floats(0, 1000))
            records[chain] = [f"key {number}"]
    needed: set[ChainID] = set()
    for root in draw(st.lists(st.sampled_from([*layers]), max_size=2)) if layers else []:
        chain_: ChainID | None = root
        while chain_ is not None:
            needed.add(chain_)
            chain_ = layers[chain_].parent
    for chain in reversed(layers):  # made before what stands on them
        parent = layers[chain].parent
        if parent is not None:
            used[parent] = max(used[parent], used[chain])
    images, tops = [], {}
    for number in range(draw(st.integers(0, 3))):
        image = Digest.of(b"image %d" % number)
        top = draw(st.sampled_from([None, *layers]))
        named = top in needed and draw(st.booleans())
        images.append(ImageUse(image, 5, NOW - number * 90_000, named, True, top))
        tops[str(image)] = top
    blobs = [
        StoredBlob(Digest.of(b"blob %d" % number), draw(st.integers(1, 500)), NOW - number * 50_000)
        for number in range(draw(st.integers(0, 3)))
    ]
    return Survey(
        layers, used, seconds, frozenset(needed), frozenset(), frozenset(), tuple(images), (), tops,
        tuple(blobs), (), records, (),
    )  # fmt: skip


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    kinds: list[Kind] = sorted(USUAL_KINDS)
    return Policy(
        older_than=draw(st.none() | st.sampled_from([0, 30_000, 100_000])),
        keep_storage=draw(_BOUNDS),
        min_free=draw(_BOUNDS),
        kinds=draw(st.just(USUAL_KINDS) | st.frozensets(st.sampled_from(kinds), min_size=1)),
    )


class Replay:
    """What is left while items go one after another; says what could have gone instead."""

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self.left = {item.identity: item for item in self._all()}
        self.needed = {*map(str, survey.needed)}

    def _all(self) -> Iterator[Item]:
        for item, _ in self.survey.standing():
            yield item
        for chain in self.survey.layers:
            yield self.survey.item(chain)
        for blob in self.survey.blobs:
            yield Item("blob", blob.digest, blob.size, blob.used, seconds=blob.size / 40_000_000)

    def can_go(self, held: frozenset[str]) -> list[Item]:
        """Return what nothing stands on, and nobody needs or holds."""
        below = {
            str(self.survey.layers[ChainID(i.identity)].parent)
            for i in self.left.values()
            if i.kind == "layer"
        }
        below |= {str(self.survey.tops[i.identity]) for i in self.left.values() if i.kind == "image"}
        return [i for i in self.left.values() if i.identity not in below | self.needed | held]

    def bytes_of(self, kinds: frozenset[Kind]) -> int:
        """Return the bytes of what is left and not needed; a changeset that is needed elsewhere is needed."""
        needed = {self.survey.layers[chain].cache_id for chain in self.survey.needed}
        changesets = {}
        for item in self.left.values():
            if item.kind == "layer":
                layer = self.survey.layers[ChainID(item.identity)]
                changesets[layer.cache_id] = layer.size if layer.cache_id not in needed else 0
        others = sum(i.size for i in self.left.values() if i.kind != "layer" and i.kind in kinds)
        return others + (sum(changesets.values()) if "layer" in kinds else 0)


@given(surveys(), st.lists(policies(), min_size=1, max_size=3), st.integers(0, 3000), st.data())
def test_any_policies_on_any_store(
    survey: Survey, asked: list[Policy], free: int, data: st.DataObject
) -> None:
    layers = [str(chain) for chain in survey.layers]
    held = frozenset(data.draw(st.lists(st.sampled_from(layers), max_size=2)) if layers else [])
    # Who holds a layer holds all below.
    for name in tuple(held):
        chain: ChainID | None = ChainID(name)
        while chain is not None:
            held |= {str(chain)}
            chain = survey.layers[chain].parent
    replay = Replay(survey)
    start = replay.bytes_of(USUAL_KINDS)
    items, prunable = choose(survey, asked, NOW, lambda item: item.identity in held, free)
    assert prunable == start
    going = [item for item in items if item.kind != "record"]
    records = {item.identity for item in items if item.kind == "record"}
    assert records == {
        key
        for item in going
        if item.kind == "layer"
        for key in survey.records.get(ChainID(item.identity), ())
    }
    freed = 0
    for policy in asked:
        while True:
            able = [item for item in replay.can_go(held) if policy.is_about(item, NOW)]
            met = policy.is_met(replay.bytes_of(policy.kinds), free + freed)
            if met or not able:
                break
            least = min(worth(item, NOW) for item in able)
            item = going.pop(0)
            assert item.identity in {each.identity for each in able}
            assert worth(replay.left[item.identity], NOW) == least
            before = replay.bytes_of(USUAL_KINDS)
            del replay.left[item.identity]
            assert before - replay.bytes_of(USUAL_KINDS) in (item.size, 0)
            freed += item.size
    assert going == [], "no more goes than must"


def test_what_takes_long_to_make_stays_and_what_is_large_and_quick_goes(store: Store) -> None:
    dear, cheap, small = (add_layer(store, None, {"f": content}) for content in (b"a", b"b" * 9000, b"c"))
    for layer, seconds in ((dear, 100.0), (cheap, 0.1), (small, 0.5)):
        record = add_record(store, layer.chain_id, layer)
        store.records.put(replace(record, seconds=seconds))
    report = swept(store, Policy(keep_storage=dear.size + small.size))
    assert gone(report, "layer") == [cheap.chain_id]
    report = swept(store, Policy(keep_storage=dear.size))
    assert gone(report, "layer") == [small.chain_id]


def test_what_took_long_and_nobody_has_used_for_long_goes_before_what_is_used_each_day(store: Store) -> None:
    compiler, daily = (add_layer(store, None, {"f": content}) for content in (b"a", b"b"))
    for layer, seconds in ((compiler, 20.0), (daily, 1.0)):
        store.records.put(replace(add_record(store, layer.chain_id, layer), seconds=seconds))
    age(store, 86400 * 10, compiler)
    assert gone(swept(store, Policy(keep_storage=daily.size), dry_run=True), "layer") == [daily.chain_id]
    age(store, 86400 * 30, compiler)
    assert gone(swept(store, Policy(keep_storage=daily.size)), "layer") == [compiler.chain_id]


def test_what_can_be_fetched_costs_no_more_than_its_way(store: Store) -> None:
    fetched, made = (add_layer(store, None, {"f": content}) for content in (b"a", b"b"))
    for layer in (fetched, made):
        store.records.put(replace(add_record(store, layer.chain_id, layer), seconds=50.0))
    there = known_above(made)
    store.absent.note(replace(there, parent=None, diff_id=fetched.diff_id))
    assert gone(swept(store, Policy(keep_storage=made.size)), "layer") == [fetched.chain_id]


def test_only_the_kinds_that_are_named_go_and_nothing_below_what_stays(store: Store) -> None:
    layers = add_chain(store, b"one", b"two")
    image = add_image(store, layers[:1])
    alone = add_layer(store, None, {"f": b"alone"})
    report = swept(store, Policy(kinds=frozenset({"layer"})))
    assert set(gone(report, "layer")) == {layers[1].chain_id, alone.chain_id}
    assert gone(report, "image") == []
    report = swept(store, Policy(kinds=frozenset({"image"})))
    assert [item.identity for item in report.items] == [image]


def test_each_policy_is_met_in_turn(store: Store) -> None:
    old, new = (add_layer(store, None, {"f": content}) for content in (b"a", b"b"))
    age(store, 5000, old)
    image = add_image(store, [])
    store.close()
    with Store.open(store.root) as other:
        report = prune(other, [Policy(older_than=3600), Policy(kinds=frozenset({"image"}))])
    assert [item.identity for item in report.items] == [old.chain_id, image]
    assert report.kept == new.size


def test_layers_that_are_elsewhere_are_not_forgotten_while_an_image_needs_them(store: Store) -> None:
    """Where they can be had was noted long ago, and nobody has asked since."""
    (layer,) = add_chain(store, b"one")
    named, other = known_above(layer), replace(known_above(layer), diff_id=DiffID(Digest.of(b"other")))
    for each in (named, other):
        store.absent.note(each)
    add_image(store, [layer, named], "app")
    store.database.write(lambda c: c.execute("UPDATE receipts SET used = 1000"))
    swept(store)
    with Store.open(store.root) as after:
        assert after.absent.get(named.chain_id) == named
        assert after.absent.get(other.chain_id) is None


def test_an_image_without_a_name_whose_top_is_elsewhere_keeps_what_is_below(store: Store) -> None:
    """Its layers go after it, as if all were here; and its use is theirs."""
    (layer,) = add_chain(store, b"one")
    top = known_above(layer)
    store.absent.note(top)
    image = add_image(store, [layer, top])
    age(store, 50_000, layer)
    assert swept(store, Policy(older_than=3600)).items == ()
    assert [item.identity for item in swept(store).items] == [image, layer.chain_id]


FILL = """
import os, sys
from cache.gc import free_bytes, prune
from cache.prunepolicy import Policy
from cache.store import Store
from tests.cache.scenes import add_image, add_layer
with Store.open(sys.argv[1] + "/store") as store:
    layers = [add_layer(store, None, {"f": os.urandom(1 << 20)}) for _ in range(20)]
    add_image(store, layers[:1], "app")
wanted = free_bytes(sys.argv[1]) + (5 << 20)
with Store.open(sys.argv[1] + "/store") as store:
    planned = prune(store, [Policy(min_free=wanted)], dry_run=True)
    report = prune(store, [Policy(min_free=wanted)])
    assert planned.items == report.items[:len(planned.items)], (planned, report)
    left = len(store.layers.all())
    assert free_bytes(sys.argv[1]) >= wanted and report.missing == 0, report
    assert 13 <= left <= 15, left
with Store.open(sys.argv[1] + "/store") as store:
    report = prune(store, [Policy(min_free=1 << 40)])
    assert len(store.layers.all()) == 1 and report.missing > 1 << 39, report
"""


def test_so_much_goes_that_as_much_is_free_as_is_asked_for(tmp_path: Path) -> None:
    """On a disk of its own: what is free there changes by nobody else."""
    script = 'mount -t tmpfs -o size=64m prune mount; exec "$0" -c "$1" mount'
    (tmp_path / "mount").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, sys.executable, FILL],
        cwd=tmp_path,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_worth_is_seconds_per_byte_by_days() -> None:
    item = Item("layer", "x", 1000, NOW - 3 * 86400, seconds=40.0)
    assert worth(item, NOW) == 0.01
    assert worth(replace(item, used=NOW), NOW) == worth(replace(item, used=NOW - 86399), NOW) == 0.04
    assert worth(replace(item, used=NOW + 10), NOW) == 0.04, "a clock that was put back"
    assert worth(replace(item, size=0), NOW) == 10.0
    assert {"cache mount"} == ALL_KINDS - USUAL_KINDS


def swept(store: Store, policy: Policy = ALL, *, dry_run: bool = False) -> Report:
    """Prune as another process would."""
    store.close()
    with Store.open(store.root) as other:
        return prune(other, [policy], dry_run=dry_run)
