"""`pybuild du` and `pybuild prune`: what there is, what goes, and what builds see to by themselves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cache.store import Store
from tests.command_fixtures.pybuild import Pybuild

BOX = """\
FROM scratch
COPY busybox /bin/busybox
"""
APP = f"""\
{BOX}RUN ["/bin/busybox", "sh", "-c", "echo 1 > /one"]
RUN ["/bin/busybox", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3"]
"""

pytestmark = pytest.mark.peer("busybox")


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    (tmp_path / "work").mkdir()
    shutil.copy(shutil.which("busybox") or "", tmp_path / "work/busybox")
    return Pybuild(str(tmp_path / "store"), str(tmp_path / "work"))


def layers(pybuild: Pybuild) -> int:
    with Store.open(pybuild.root) as store:
        return len(store.layers.all())


def test_du_says_what_is_needed_by_whom_and_what_could_go(pybuild: Pybuild) -> None:
    pybuild.build(APP, "-t", "app")
    pybuild.build(BOX, "-t", "box", "-t", "box:2")
    pybuild("rmi", "app")
    found = pybuild.json("du", "--json")
    needed = [(item["kind"], item["needed_by"]) for item in found["items"] if item["needed_by"]]
    assert needed == [("image", "box:2 and 1 more"), ("layer", "box:2 and 1 more")]
    free = [item for item in found["items"] if not item["needed_by"]]
    assert [item["kind"] for item in free] == ["layer", "layer"]
    assert found["records"] == 3 and found["disk"] > found["free"] > 0
    going = [
        each for each in pybuild.json("prune", "--dry-run", "--json")["items"] if each["kind"] != "record"
    ]
    assert [item["identity"] for item in going] == [item["identity"] for item in reversed(free)]
    table = pybuild("du").splitlines()
    assert [line.split()[:2] for line in table if line.startswith(("layer", "image"))] == [
        ["image", "1"],
        ["layer", "3"],
    ]
    assert "3 records of steps" in table[-1]
    rows = pybuild("du", "-v", "--kind", "layer", "--no-trunc").splitlines()
    assert len(rows) == 4 and free[0]["identity"] in rows[2]


def test_du_tells_what_a_build_that_runs_holds_and_leaves_it_alone(pybuild: Pybuild) -> None:
    pybuild.build(APP, "-t", "app")
    pybuild("rmi", "app")
    with Store.open(pybuild.root) as store:
        (top,) = [layer for layer in store.layers.all() if layer.size > 3_000_000]
        assert store.layers.get(top.chain_id) is not None
        found = pybuild.json("du", "--json", "--kind", "layer")["items"]
        assert [item["needed_by"] for item in found] == ["a running build"] * 3
        pybuild("prune")
    assert layers(pybuild) == 3


def test_kinds_and_policies_say_what_goes(pybuild: Pybuild) -> None:
    image = pybuild.build(APP)
    pybuild("prune", "--kind", "layer,blob")
    assert layers(pybuild) == 3, "an image stands on them, though it has no name"
    assert "freed 0B in 0 items" in pybuild(
        "prune", "--policy", "older-than=1h", "--policy", "keep-storage=1GB"
    )
    done = pybuild("prune", "--policy", "kind=image", "--policy", "keep-storage=2500kB,kind=layer", "--json")
    assert image in done
    assert layers(pybuild) == 2, "the large one is worth least"
    assert "freed 0B" in pybuild("prune", "--filter", "until=1h", "-q")
    assert "more should be free" in pybuild("prune", "--min-free", "100%", "--kind", "image")
    assert layers(pybuild) == 2
    pybuild("prune", "--all")
    assert layers(pybuild) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--policy", "older"), "older-than=AGE, keep-storage=SIZE, min-free=SIZE and kind=KIND are known"),
        (("--policy", "kind=layers"), "unknown kind 'layers'"),
        (("--policy", "kind=layer,kind=blob"), "kind is given twice"),
        (("--policy", "older-than=3"), "write it like 24h or 7d"),
        (("--min-free", "110%"), "write it like 20GB or 10%"),
        (("--kind", "sheep"), "unknown kind 'sheep'"),
        (("--all", "--older-than", "1h"), "--all takes everything"),
        (("--filter", "label=x"), "only until=AGE is known"),
    ],
)
def test_what_makes_no_sense_is_said(pybuild: Pybuild, options: tuple[str, ...], told: str) -> None:
    done = pybuild.try_("prune", *options)
    assert done.code == 2
    assert told in done.err and "Traceback" not in done.err


def test_pybuild_toml_says_it_for_all(pybuild: Pybuild) -> None:
    pybuild.build(APP)
    pybuild.write("pybuild.toml", '[prune]\npolicy = ["kind=image", "keep-storage=2500kB,kind=layer"]\n')
    pybuild("prune")
    assert layers(pybuild) == 2
    pybuild("prune", "--kind", "blob")
    assert layers(pybuild) == 2, "options come in its place"
    pybuild("prune", "-a")
    assert layers(pybuild) == 0
    pybuild.write("pybuild.toml", '[prune]\npolicy = ["kind=all"]\n')
    done = pybuild.try_("prune")
    assert done.code == 2 and "`policy` must be a list of policies" in done.err
    assert "pybuild.toml:2:1" in done.err


def test_builds_see_to_it_if_they_are_to(pybuild: Pybuild) -> None:
    pybuild.write(
        "pybuild.toml", '[prune]\npolicy = ["kind=image", "keep-storage=2500kB,kind=layer"]\nauto = true\n'
    )
    image = pybuild.build(APP, "-t", "app")
    assert layers(pybuild) == 3, "what has a name stays"
    pybuild("rmi", "app")
    done = pybuild.try_("build", "test.rec", "--progress", "plain")
    assert image in done.out and "pruned" not in done.err, "it ran nothing"
    pybuild.write("other.rec", BOX + 'RUN ["/bin/busybox", "true"]\n')
    with Store.open(pybuild.root) as store:
        store.database.write(lambda c: c.execute("DELETE FROM memo WHERE kind = 'prune'"))
    told = pybuild.try_("build", "other.rec", "--progress", "plain", "-t", "other")
    assert told.code == 0 and "pruned 3.1" in told.err and "[store/pruned]" in told.err
    with Store.open(pybuild.root) as store:
        assert max(layer.size for layer in store.layers.all()) < 2_500_000
    pybuild("rmi", "other")
    pybuild.write("other.rec", APP + 'RUN ["/bin/busybox", "true"]\n')
    assert "pruned" not in pybuild.try_("build", "other.rec", "--progress", "plain").err, "once in an hour"
    pybuild.write("pybuild.toml", '[prune]\npolicy = ["min-free=100%"]\nauto = true\n')
    pybuild.write("other.rec", BOX + 'RUN ["/bin/busybox", "echo", "again"]\n')
    told = pybuild.try_("build", "other.rec", "--progress", "plain", "-t", "other")
    assert told.code == 0 and "less are free than `min-free` says" in told.err
    with Store.open(pybuild.root) as store:
        assert len(store.layers.all()) == len(pybuild.json("layers", "other", "--json"))
    assert os.listdir(f"{pybuild.root}/tmp") == []
